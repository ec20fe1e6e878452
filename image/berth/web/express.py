"""The shortest path to a prediction: POST /predict and V2's infer, answered before Flask's dispatch.

Flask's routing, request object, response object and hooks cost more than a small model does. These routes do the same
work as their views (the same functions, in the same edge), take what they need from the WSGI environment, and leave
every other request to Flask.

`answer_plain` goes one step further: a request that came whole is answered from bytes to bytes, by the thread that
found it, unless the answer has to be waited for. Handing a request to another thread, and the connection back, costs
several times what a small model does. What both buy is in bench/RESULTS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias

from berth.serving.predictor import WouldWait
from berth.web.edge import Edge, begin
from berth.web.exchange import Exchange
from berth.web.wire import Reply
from berth.worker.http1 import encode_response, is_whole, parse_request

Wsgi: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Answer(NamedTuple):
    """What to send, and whether the connection must close then."""

    data: bytes
    closes: bool


# The request is plain so far, and its rest is on the way.
INCOMPLETE = Answer(b"", closes=False)


@dataclass(frozen=True, slots=True)
class ExpressRoute:
    """One path: the rule and protocol it counts under, and what answers it.

    `at_once` tells whether it is worth trying to answer without waiting.
    """

    rule: str
    protocol: str
    answer: Callable[[], Reply]
    at_once: Callable[[], bool]


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
        self._lines = {f"POST {path} HTTP/1.1".encode(): (path, route) for path, route in routes.items()}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        route = self._routes.get(environ["PATH_INFO"])
        if route is None or environ["REQUEST_METHOD"] != "POST":
            return self._behind(environ, start_response)
        exchange = begin(environ, self._edge.timeout_seconds)
        reply = self._answer(exchange, route)
        start_response(_STATUS_LINES[reply.status], self._finish(exchange, route, reply))
        return (reply.body,)

    def answer_plain(self, data: bytes, client: str) -> Answer | None:
        """The answer to a request as it came, or INCOMPLETE.

        None, and nothing has happened, for a request that is none of ours or would have to wait.
        """
        path, route = self._lines.get(data[: data.find(b"\r\n")], ("", None))
        if route is None or not route.at_once():
            return None
        environ = parse_request(data, "POST", path, client)
        if environ is None:
            return None
        if not is_whole(environ):
            return INCOMPLETE
        exchange = begin(environ, self._edge.timeout_seconds)
        exchange.may_wait = False
        try:
            reply = self._answer(exchange, route)
        except WouldWait:
            return None
        closes = "Connection" in reply.headers
        headers = [item for item in self._finish(exchange, route, reply) if item[0] != "Connection"]
        return Answer(encode_response(_STATUS_LINES[reply.status], headers, reply.body, closes), closes)

    def _answer(self, exchange: Exchange, route: ExpressRoute) -> Reply:
        try:
            self._edge.admit(exchange, route.rule, route.protocol)
            return route.answer()
        except WouldWait:
            raise
        except Exception as error:  # the edge: no error reaches a client but as an answer
            return self._edge.refuse(exchange, error)
        finally:
            self._edge.leave(exchange)

    def _finish(self, exchange: Exchange, route: ExpressRoute, reply: Reply) -> list[tuple[str, str]]:
        headers = self._edge.finish(exchange, route.rule, reply.status)
        headers.append(("Content-Type", reply.content_type))
        headers.append(("Content-Length", str(len(reply.body))))
        headers.extend(reply.headers.items())
        self._observe("POST", route.rule, reply.status, exchange.began)
        return headers
