"""GET /, GET /docs and GET /drift: pages for people, and their scripts and styles.

The pages hold no model data: what they show they fetch, with the key where one is needed. Everything is a
file of the package, nothing comes from elsewhere, and no script or style stands inside a page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_etags

from berth.errors import RouteNotFound
from berth.web import wire
from berth.web.access import visible_entries
from berth.web.exchange import HTML, JSON, Backend, Endpoint, Exchange, Reply

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


_SHELL = "shell.html"
# A page's title, its own link in the navigation, and the element that "Skip to the …" leads to.
_PAGES = {
    "console.html": {"title": "Berth", "link": "./", "main": "sheet", "skip": "model"},
    "docs.html": {"title": "API docs · Berth", "link": "docs", "main": "operations", "skip": "routes"},
    "drift.html": {"title": "Drift · Berth", "link": "drift", "main": "sheet", "skip": "features"},
    "experiments.html": {"title": "Experiments · Berth", "link": "experiments", "main": "sheet", "skip": "report"},
}


def _make_page(shell: str, name: str, content: str) -> str:
    """The whole page around what is its own."""
    page = Template(shell).substitute(_PAGES[name], name=name.removesuffix(".html"), content=content)
    link = f'href="{_PAGES[name]["link"]}"'
    return page.replace(f"{link}>", f'{link} aria-current="page">')


@cache
def _read_files() -> dict[str, Reply]:
    """The package's pages, scripts and styles by name; no other name is ever opened."""
    files = {}
    folder = resources.files("berth") / "web" / "static"
    shell = (folder / _SHELL).read_text("utf-8")
    for file in folder.iterdir():
        if file.name == _SHELL:
            continue
        content = file.read_bytes()
        if file.name in _PAGES:
            content = _make_page(shell, file.name, content.decode()).encode()
        headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
        files[file.name] = Reply(content, 200, _KINDS[file.name.rpartition(".")[2]], headers)
    return files


def _wants_page(environ: Mapping[str, Any]) -> bool:
    """Whether the client names HTML among what it accepts; curl and libraries do not."""
    accepted = parse_accept_header(environ.get("HTTP_ACCEPT"), MIMEAccept)
    named = any(value.lower() == HTML for value, _ in accepted)
    return named and accepted.quality(HTML) >= accepted.quality(JSON)


def _send(exchange: Exchange, name: str) -> Reply:
    files = _read_files()
    if name not in files:
        raise RouteNotFound(f"no file {name[:200]!r} here; the pages are / and /docs")
    known = files[name]
    if parse_etags(exchange.environ.get("HTTP_IF_NONE_MATCH")).contains_weak(known.headers["ETag"].strip('"')):
        return known._replace(body=b"", status=304)
    return known


def _listing(exchange: Exchange, backend: Backend) -> dict[str, Any]:
    routes = [{"method": it.method.upper(), "path": it.path, "summary": it.summary} for it in backend.endpoints]
    models = [
        {"name": entry.name, "version": entry.version, "state": state.state, "reason": state.reason}
        for entry in visible_entries(exchange, backend)
        for state in [backend.lifecycle.states[entry.key]]
    ]
    # The status is what KServe's V1 clients read here.
    return {"service": "berth", "status": "alive", "routes": routes, "models": models}


VARY = {"Vary": "Accept"}


def page_for_browsers(name: str) -> Callable[[Exchange], Reply | None]:
    """An endpoint's `page`: this file for a client that names HTML among what it accepts, None for others."""

    def page(exchange: Exchange) -> Reply | None:
        if not _wants_page(exchange.environ):
            return None
        reply = _send(exchange, name)
        return reply._replace(headers={**reply.headers, **VARY})

    return page


def _console(exchange: Exchange, backend: Backend) -> Reply:
    return wire.json_reply(_listing(exchange, backend))._replace(headers=VARY)


def _docs(exchange: Exchange, backend: Backend) -> Reply:
    return _send(exchange, "docs.html")


def _static(exchange: Exchange, backend: Backend) -> Reply:
    return _send(exchange, exchange.args["name"])


ENDPOINTS = (
    Endpoint("get", "/", "console", "operate", "A page to try the models; to other clients, the routes and models",
             _console, "Listing", access="open", page=page_for_browsers("console.html")),
    Endpoint("get", "/docs", "docs", "operate", "This document as a page to try", _docs, "Text", HTML, access="open"),
    Endpoint("get", "/static/{name}", "static", "operate", "The pages' scripts and styles", _static, "Text", "*/*",
             errors=(404,), access="open"),
)  # fmt: skip
