"""The gunicorn worker: HTTP transport."""
