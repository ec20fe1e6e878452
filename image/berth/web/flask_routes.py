"""The endpoints as Flask's routes: Flask finds the endpoint, the pipeline does the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from flask import Flask, Response, request
from werkzeug import exceptions

from berth.errors import MethodNotAllowed, RequestError, RouteNotFound
from berth.web.exchange import Backend, Endpoint, Exchange, Reply
from berth.web.pipeline import Finished, Pipeline, without_model

# A path of V1 whose verb is another than `predict`, as `explain` of KServe and `classify` of TensorFlow Serving.
_VERB = re.compile(r"/v1/models/[^/]+(?:/versions/[^/]+)?(:\w+)")


def _respond(finished: Finished) -> Response:
    return Response(finished.body, finished.status, finished.headers)


def _allowed_methods() -> str:
    return ", ".join(sorted(request.url_rule.methods or ()) if request.url_rule else ())


def _tell_methods(exchange: Exchange, backend: Backend) -> Reply:
    return Reply(b"", headers={"Allow": _allowed_methods()})


def _view(pipeline: Pipeline, endpoint: Endpoint) -> Callable[..., Response]:
    cors = pipeline.cors

    def allow_page(exchange: Exchange, backend: Backend) -> Reply:
        fields = {} if cors is None else cors.preflight_fields(exchange.environ, _allowed_methods())
        return Reply(b"", headers={"Allow": _allowed_methods(), **fields})

    options = without_model(endpoint, _tell_methods)
    preflight = replace(without_model(endpoint, allow_page), access="open")  # browsers send no key with it

    def view(**args: str) -> Response:
        asked = endpoint
        if request.method == "OPTIONS":
            asked = preflight if cors is not None and cors.allows_preflight(request.environ) else options
        if asked.protocol:  # the pipeline counts it itself, whichever way it came
            request.prom_do_not_track = True  # type: ignore[attr-defined]
        return _respond(pipeline.run(asked, request.environ, args))

    return view


def _translate(error: Exception) -> Exception:
    """werkzeug's own errors as ours; others as they are."""
    if isinstance(error, exceptions.NotFound):
        return RouteNotFound(f"no route {request.path[:200]!r}; GET / lists what there is")
    if isinstance(error, exceptions.MethodNotAllowed):
        if (verb := _VERB.fullmatch(request.path)) is not None and request.method == "POST":
            return RouteNotFound(f"V1 has no {verb[1][:40]!r} here; its verb is :predict")
        allowed = ", ".join(sorted(error.valid_methods or ()))
        told = f"{request.method[:20]} is not for this route; use {allowed}"
        return MethodNotAllowed(told, headers={"Allow": allowed})
    if isinstance(error, exceptions.HTTPException) and error.code is not None and 400 <= error.code < 500:
        return RequestError(error.description or error.name)
    return error


def _answer_error(pipeline: Pipeline, error: Exception) -> Response:
    """What no endpoint handles, usually because there is none."""

    def fail(exchange: Exchange, backend: Backend) -> Reply:
        raise _translate(error)

    unmatched = Endpoint(request.method, "", "unmatched", "", "", fail)
    return _respond(pipeline.run(unmatched, request.environ, {}))


def make_flask() -> Flask:
    """Flask without routes."""
    app = Flask("berth", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    return app


def add_routes(app: Flask, pipeline: Pipeline) -> None:
    """Give `app` every endpoint of the pipeline's backend, and its errors the one shape."""
    for endpoint in pipeline.backend.endpoints:
        methods = [endpoint.method.upper(), "OPTIONS"]
        view = _view(pipeline, endpoint)
        app.add_url_rule(endpoint.rule, endpoint.id, view, methods=methods, provide_automatic_options=False)
    app.register_error_handler(Exception, lambda error: _answer_error(pipeline, error))
