"""Small words for tests that ask the application over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

# The fixture `make_app`: make_app(store, max_rows=10, …) is a client of a loaded application.
MakeApp: TypeAlias = Callable[..., FlaskClient]
# The fixture `read_log`: read_log() is the JSON lines written since the last call.
ReadLog: TypeAlias = Callable[[], list[dict[str, Any]]]


def told(answer: TestResponse, status: int = 200) -> Any:
    """The JSON document of an answer that has this status."""
    assert answer.status_code == status, answer.data
    return answer.json


def refused(answer: TestResponse, status: int = 400, code: str = "invalid_input") -> str:
    """What a refusal says, once its status and code are these."""
    document = told(answer, status)
    assert document["code"] == code, document
    assert document["request_id"] == answer.headers["X-Request-Id"]
    return str(document["error"])


def tensor(name: str, data: Any, shape: Sequence[int] | None = None, datatype: str = "FP64") -> dict[str, Any]:
    """One input of the Open Inference Protocol as JSON."""
    return {"name": name, "shape": list(shape or [len(data)]), "datatype": datatype, "data": data}


def outputs_of(document: Any) -> dict[str, Any]:
    """The protocol's answer: its data by output."""
    return {output["name"]: output["data"] for output in document["outputs"]}
