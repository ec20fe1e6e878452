"""The shortest path to a prediction: POST /predict and V2's infer, answered before Flask's dispatch.

Flask's routing, request object, response object and hooks cost more than a small model does. These routes do the same
work as their views (the same functions, in the same edge), take what they need from the WSGI environment, and leave
every other request to Flask. What it buys is in bench/RESULTS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

from berth.web.edge import Edge, begin
from berth.web.wire import Reply

Wsgi: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class ExpressRoute:
    """One path: the rule and protocol it counts under, and what answers it."""

    rule: str
    protocol: str
    answer: Callable[[], Reply]


class Express:
    """A WSGI application in front of another one. `observe` gets method, rule, status and seconds of each answer."""

    def __init__(
        self,
        behind: Wsgi,
        edge: Edge,
        routes: Mapping[str, ExpressRoute],
        observe: Callable[[str, str, int, float], None],
    ) -> None:
        self._behind = behind
        self._edge = edge
        self._routes = routes
        self._observe = observe

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        route = self._routes.get(environ["PATH_INFO"])
        if route is None or environ["REQUEST_METHOD"] != "POST":
            return self._behind(environ, start_response)
        edge = self._edge
        exchange = begin(environ, edge.timeout_seconds)
        try:
            edge.admit(exchange, route.rule, route.protocol)
            reply = route.answer()
        except Exception as error:
            reply = edge.refuse(exchange, error)
        finally:
            edge.leave(exchange)
        headers = edge.finish(exchange, route.rule, reply.status)
        headers.append(("Content-Type", reply.content_type))
        headers.append(("Content-Length", str(len(reply.body))))
        headers.extend(reply.headers.items())
        self._observe("POST", route.rule, reply.status, exchange.began)
        start_response(_STATUS_LINES[reply.status], headers)
        return (reply.body,)
