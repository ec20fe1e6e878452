"""The floor: what gunicorn answers when the application does nothing."""

ANSWER = b'{"prediction":[0]}'


def app(environ, start_response):
    """One constant answer for whatever was sent."""
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))])
    return [ANSWER]
