"""A file becomes a function: one format a file."""
