"""The floor: what gunicorn returns when the application does nothing."""

ANSWER = b'{"prediction":[0]}'


def app(environ, start_response):
    """The same response to every request."""
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))])
    return [ANSWER]
