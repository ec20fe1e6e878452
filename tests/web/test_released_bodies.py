"""A request's body is freed with its response, not when Python next searches for cycles: large ones add up."""

from __future__ import annotations

import gc
import io
import json
import socket
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import run_wsgi_app

from berth.worker.filling import open_body
from berth.worker.outbox import Outbox

ROWS = [[5.1, 3.5, 1.4, 0.2]] * 5000
GOOD = json.dumps({"features": ROWS}).encode()
GOOD_V2 = json.dumps({"inputs": [{"name": "features", "shape": [5000, 4], "datatype": "FP64", "data": ROWS}]}).encode()


@pytest.fixture
def no_search_for_cycles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def post(client: FlaskClient, path: str, body: bytes) -> tuple[str, weakref.ref[Any]]:
    """The status of a request as a thread of the worker's pool serves it, and a reference to its body's bytes."""
    held = np.frombuffer(bytearray(body), np.uint8)
    ours, theirs = socket.socketpair()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.input": open_body(held.data),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
        "gunicorn.socket": Outbox(ours),
    }
    with ours, theirs:
        _, status, _ = run_wsgi_app(client.application, environ)
    return status, weakref.ref(held)


@pytest.mark.usefixtures("no_search_for_cycles")
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", GOOD, "200 OK"),
        ("/v2/models/iris/infer", GOOD_V2, "200 OK"),
        ("/predict", GOOD[:-1], "400 BAD REQUEST"),
        ("/predict", GOOD.replace(b"5.1", b'"x"'), "400 BAD REQUEST"),
    ],
    ids=["predict", "v2", "no JSON", "no numbers"],
)
def test_a_body_is_freed_with_its_response(client: FlaskClient, path: str, body: bytes, status: str) -> None:
    said, held = post(client, path, body)
    assert said.upper() == status
    assert held() is None
