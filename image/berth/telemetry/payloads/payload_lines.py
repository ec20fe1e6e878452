"""One exchange as one line of JSON: decoded, redacted and bounded, by the writer and not by the request."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from berth.telemetry.payloads.redaction import HIDDEN, Redaction, for_answer, for_request
from berth.tensors.arrays import TensorSpec

_CSV, _NDJSON = "text/csv", "application/x-ndjson"
_SHOWN_CHARACTERS = 1000
# What cannot be read as JSON or is nested too deeply to be written again.
_UNREADABLE = (ValueError, TypeError, RecursionError, csv.Error)


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a request or a response; `json_bytes` of them are JSON where tensors follow in binary.

    `data` is None where the body was too long to keep.
    """

    data: bytes | None
    media_type: str
    json_bytes: int | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class PayloadEntry:
    """One exchange: the fields that are known already, and the bodies. `inputs` are None without a model."""

    fields: Mapping[str, Any]
    request: Body | None
    response: Body
    inputs: Sequence[TensorSpec] | None = None
    size: int = field(default=0)


def _trim_body(body: Body, limit: int) -> Body:
    data = body.data or b""
    kept = data if body.json_bytes is None else data[: body.json_bytes]
    return replace(body, data=kept if len(kept) <= limit else None, size=len(data))


def trim(entry: PayloadEntry, limit: int) -> PayloadEntry:
    """The entry without bodies of more than `limit` bytes and without binary tensors: what may wait in memory."""
    request = None if entry.request is None else _trim_body(entry.request, limit)
    response = _trim_body(entry.response, limit)
    size = sum(len(body.data) for body in (request, response) if body is not None and body.data)
    return replace(entry, request=request, response=response, size=size)


def _decode_lines(data: bytes, key: str, redaction: Redaction) -> dict[str, Any]:
    """Lines of a stream as the rows of one request, or of its response; those that are not JSON keep their places."""
    rows = []
    for line in filter(bytes.strip, data.split(b"\n")):
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            rows.append({"unreadable": True, "bytes": len(line)})
    document: dict[str, Any] = redaction.apply({key: rows}) if redaction.fields else {key: rows}
    return document


def _decode(body: Body, redaction: Redaction, rows_key: str) -> Any:
    """What the line says about a trimmed body; the rows of a stream go under `rows_key`."""
    if body.data is None:
        return {"truncated": True, "bytes": body.size}
    if body.json_bytes == 0:
        return {"binary": True, "bytes": body.size}
    try:
        if body.media_type == _CSV:
            return redaction.apply_csv(body.data.decode("utf-8"))
        if body.media_type == _NDJSON:
            return _decode_lines(body.data, rows_key, redaction)
        document = orjson.loads(body.data)
        document = redaction.apply(document) if redaction.fields else document
        # Only to see whether it can be written again.
        orjson.dumps(document)
    except _UNREADABLE:
        told = {"unreadable": True, "bytes": body.size}
        if redaction.fields:
            return told
        return {**told, "text": body.data[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace")[:_SHOWN_CHARACTERS]}
    return document


def _decode_request(entry: PayloadEntry, fields: frozenset[str]) -> Any:
    if entry.request is None:
        return None
    if fields and entry.inputs is None:
        # Nobody knows which columns the rows have.
        return {"redacted": True, "bytes": entry.request.size}
    return _decode(entry.request, for_request(fields, entry.inputs or ()), "instances")


def encode_line(entry: PayloadEntry, fields: frozenset[str]) -> bytes:
    """The line of a trimmed entry, its newline included; what `fields` names is hidden."""
    failed = "code" in entry.fields
    more = {"error": HIDDEN} if failed and fields else {}
    document = {
        **entry.fields,
        **more,
        "request": _decode_request(entry, fields),
        # Any line of a stream may be an error, whose message may quote a value.
        "response": _decode(
            entry.response, for_answer(fields, failed or entry.response.media_type == _NDJSON), "predictions"
        ),
    }
    return orjson.dumps(document, default=repr, option=orjson.OPT_APPEND_NEWLINE)
