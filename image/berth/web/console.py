"""GET / and GET /docs: pages for people, and their scripts and styles.

The pages hold no model data: what they show they fetch, with the key where one is needed. Everything is a
file of the package, nothing comes from elsewhere, and no script or style stands inside a page.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

from flask import Blueprint, Response, request

from berth.errors import RouteNotFound
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import Lifecycle
from berth.web import wire
from berth.web.openapi.routes import HTML, ROUTES

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _read_files() -> dict[str, Response]:
    """The package's pages, scripts and styles by name; no other name is ever opened."""
    files = {}
    for file in (resources.files("berth") / "web" / "static").iterdir():
        content = file.read_bytes()
        answer = Response(content, headers=_HEADERS, content_type=_KINDS[file.name.rpartition(".")[2]])
        answer.set_etag(hashlib.sha256(content).hexdigest()[:32])
        files[file.name] = answer
    return files


def wants_page() -> bool:
    """Whether the client names HTML among what it takes; curl and libraries do not."""
    accepted = request.accept_mimetypes
    named = any(value.lower() == HTML for value, _ in accepted)
    return named and accepted.quality(HTML) >= accepted.quality(wire.JSON)


def _listing(catalog: Catalog, lifecycle: Lifecycle) -> dict[str, Any]:
    routes = [{"method": route.method.upper(), "path": route.path, "summary": route.summary} for route in ROUTES]
    models = [
        {"name": entry.name, "version": entry.version, "state": state.state, "reason": state.reason}
        for entry in catalog.entries
        for state in [lifecycle.states[entry.key]]
    ]
    return {"service": "berth", "routes": routes, "models": models}


def console_blueprint(catalog: Catalog, lifecycle: Lifecycle) -> Blueprint:
    """The two pages, and the files under /static."""
    routes = Blueprint("console", __name__)
    files = _read_files()

    def send(name: str) -> Response:
        if name not in files:
            raise RouteNotFound(f"no file {name[:200]!r} here; the pages are / and /docs")
        known = files[name]
        answer = Response(known.get_data(), headers=known.headers)
        answer.make_conditional(request)
        return answer

    @routes.get("/")
    def console() -> Response:
        answer = send("console.html") if wants_page() else wire.json_response(_listing(catalog, lifecycle))
        answer.vary.add("Accept")
        return answer

    @routes.get("/docs")
    def docs() -> Response:
        return send("docs.html")

    @routes.get("/static/<name>")
    def static(name: str) -> Response:
        return send(name)

    return routes
