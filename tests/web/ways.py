"""The ways in which a request for a prediction comes to the pipeline, and that each gives the same response.

The ways: inline (bytes to bytes, on the worker's main thread), pooled (WSGI before Flask's dispatch), Flask's routes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

from flask import Flask
from flask.testing import FlaskClient

from berth.worker.inline import InlineAnswers

JSON = "application/json"


@dataclass(frozen=True)
class Case:
    """A request for a prediction, and the status it must be answered with."""

    path: str
    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The body as it is sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()

    @property
    def fields(self) -> dict[str, str]:
        """The header fields as they are sent; those that are empty are not."""
        return {name: value for name, value in ({"Content-Type": JSON} | self.headers).items() if value}


# (status, headers, body)
Answer: TypeAlias = tuple[int, dict[str, str], bytes]
Way: TypeAlias = Callable[[FlaskClient, Case], Answer]


def as_sent(case: Case) -> bytes:
    """A whole request as the worker reads it."""
    sent = {"Host": "localhost", "Content-Length": str(len(case.data))} | case.fields
    fields = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST {case.path} HTTP/1.1\r\n{fields}\r\n".encode() + case.data


def inline_of(client: FlaskClient) -> InlineAnswers:
    """What the worker's main thread calls. A model that was slow when it was measured is measured again."""
    backend = client.application.extensions["berth"].express._pipeline.backend
    for model in backend.catalog.models():
        for _ in range(20):
            if model.name != "iris" or backend.predictor.may_answer_at_once(model):
                break
            backend.predictor.prepare(model)
    inline: InlineAnswers = client.application.extensions["berth"].express
    return inline


def inline(client: FlaskClient, case: Case) -> Answer:
    """On the main thread, which never waits."""
    answer = inline_of(client).answer_plain(as_sent(case), "127.0.0.1")
    assert answer is not None, f"{case.path} would wait"
    head, _, body = answer.data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    told = dict(line.split(": ", 1) for line in lines)
    assert told.pop("Server") == "gunicorn"
    assert told.pop("Date")
    assert told.pop("Connection") == ("close" if answer.closes else "keep-alive")
    if answer.closes:
        told["Connection"] = "close"
    status = int(status_line.split()[1])
    assert status_line == f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    return status, told, body


def pooled(client: FlaskClient, case: Case) -> Answer:
    """A WSGI application; predictions never reach Flask."""
    answer = client.post(case.path, data=case.data, headers=case.fields)
    return answer.status_code, dict(answer.headers), answer.data


def routed(client: FlaskClient, case: Case) -> Answer:
    """Flask alone, as for paths that are spelled in another way."""
    app = client.application
    before, app.wsgi_app = app.wsgi_app, Flask.wsgi_app.__get__(app)  # type: ignore[method-assign]
    assert before != app.wsgi_app
    try:
        return pooled(client, case)
    finally:
        app.wsgi_app = before  # type: ignore[method-assign]


WAYS: tuple[Way, ...] = (inline, pooled, routed)
_OWN_ID = re.compile(rb'"request_id":"[0-9a-f]{32}"')


def without_id(answer: Answer, case: Case) -> Answer:
    """The answer without a request id that the server made; its length is the same every time."""
    status, headers, body = answer
    assert len(headers["X-Request-Id"]) == 32 or headers["X-Request-Id"] == case.headers["X-Request-Id"]
    return status, {name: value for name, value in headers.items() if name != "X-Request-Id"}, _OWN_ID.sub(b"", body)


def compare(clients: list[FlaskClient], cases: list[Case]) -> None:
    """That each case has its status, and every way the same answer to it."""
    for case in cases:
        seen = [without_id(way(client, case), case) for way, client in zip(WAYS, clients, strict=True)]
        assert seen[0][0] == case.status, (case, seen[0])
        assert seen[0] == seen[1] == seen[2], case
