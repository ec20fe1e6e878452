"""Fetching verified versions from elsewhere."""
