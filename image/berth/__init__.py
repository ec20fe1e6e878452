"""Berth serves a verified model behind an address."""

__version__ = "0.1.0"
