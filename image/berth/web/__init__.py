"""The HTTP side: bytes in, bytes out."""
