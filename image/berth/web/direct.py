"""Predictions before Flask: a WSGI application in front of another one.

Flask's routing, request object, response object and hooks cost more than a small model does. A prediction whose path
is spelled as the endpoints spell it goes straight to the pipeline; every other request is Flask's, which has the same
endpoints. bench/RESULTS.md says what this saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from berth.web.endpoints import match_prediction
from berth.web.pipeline import Pipeline
from berth.web.status_lines import STATUS_LINES

Wsgi: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]


def put_in_front(behind: Wsgi, pipeline: Pipeline) -> Wsgi:
    """A WSGI application that serves predictions itself and leaves the rest to `behind`."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found = match_prediction(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "POST" else None
        if found is None:
            return behind(environ, start_response)
        finished = pipeline.run(found[0], environ, found[1])
        start_response(STATUS_LINES[finished.status], finished.headers)
        return (finished.body,)

    return application
