"""The corpus of bad requests: data files in corpus/bad_requests, made into requests with the answer each must get.

A file has `cases` and what they share: `routes` (each case goes to each), `headers`, `status`, `code`. Instead of
routes, `sends` has pairs of a route and the key under which a case's `value` is sent. A case has a `name` and may
have its own `method`, `routes`, `headers`, `status` and `code`. Its body is one of

    body          text                     body_base64   bytes
    json          a document               body_parts    pairs of a text and how often it stands
    value         a document, for `sends`  value_parts   the same in parts

and goes through gzip where `gzip` is true.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "corpus" / "bad_requests"
FILES = sorted(path.stem for path in FOLDER.glob("*.json"))
_INTERNALS = ("Traceback", "site-packages", ".py", "/work/", "/tmp/", "/root", "<html")


@dataclass(frozen=True)
class BadRequest:
    """One request, and the status and code that it must be answered with."""

    name: str
    method: str
    route: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    code: str

    def faults(self, status: int, request_id: str | None, body: bytes) -> list[str]:
        """What is wrong with an answer to it; `request_id` is that of its header."""
        try:
            document = json.loads(body)
        except ValueError:
            return [f"{status} with a body that is not JSON: {body[:100]!r}"]
        keys = {"error", "code", "request_id"}
        if self.route == "/invocations":
            keys |= {"error_code", "message"}
        wrong = [] if (status, document.get("code")) == (self.status, self.code) else [f"{status} {document}"[:300]]
        wrong += [] if set(document) == keys else [f"keys {sorted(document)}"]
        wrong += [] if request_id == document.get("request_id") else ["another request_id"]
        text = str(document.get("error"))
        wrong += [f"internals: {text[:300]}"] if any(word in text for word in _INTERNALS) else []
        return wrong + ([f"not one short line: {text[:300]!r}"] if "\n" in text or not 0 < len(text) < 3000 else [])


def _join(parts: list[tuple[str, int]]) -> str:
    return "".join(text * times for text, times in parts)


def _body(case: Mapping[str, Any]) -> bytes:
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    if "json" in case:
        return json.dumps(case["json"]).encode()
    text = _join(case["body_parts"]) if "body_parts" in case else case.get("body", "")
    return gzip.compress(text.encode(), 1) if case.get("gzip") else text.encode()


def _sent_under(key: str, case: Mapping[str, Any]) -> bytes:
    text = _join(case["value_parts"]) if "value_parts" in case else json.dumps(case["value"])
    return f'{{"{key}": {text}}}'.encode()


def read_bad_requests(file: str) -> Iterator[BadRequest]:
    """The requests of one file."""
    shared = json.loads((FOLDER / f"{file}.json").read_text("utf-8"))
    for case in shared["cases"]:
        full = {"method": "POST", "headers": {}, **shared, **case}
        for route, key in full.get("sends") or [(route, None) for route in full["routes"]]:
            body = _body(full) if key is None else _sent_under(key, full)
            name = f"{file}: {full['name']}: {route[:60]} {key or ''}"
            yield BadRequest(name, full["method"], route, full["headers"], body, full["status"], full["code"])
