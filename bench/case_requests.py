"""The bytes of one request to a server, and the numbers in its response: JSON, or V2 with binary tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cases import Case, rows_of
from compared_servers import Peer
from servers import ServerFailed, decode

HEADER_LENGTH = "Inference-Header-Content-Length"
_DTYPES = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8", "INT32": "<i4"}


@dataclass(frozen=True)
class CaseRequest:
    """One POST: path, body and headers beside the usual ones."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def binary_request(path: str, name: str, rows: list[list[float]]) -> CaseRequest:
    """Rows as one FP64 tensor of the V2 protocol's binary extension, with a response in the same representation."""
    data = np.asarray(rows, dtype="<f8")
    tensor = {
        "name": name,
        "shape": list(data.shape),
        "datatype": "FP64",
        "parameters": {"binary_data_size": data.nbytes},
    }
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return CaseRequest(path, header + data.tobytes(), headers)


def request_of(peer: Peer, case: Case) -> CaseRequest:
    """The request of a case in the protocol of a server."""
    if case.binary:
        return binary_request(peer.binary_path.format(model=case.model), peer.binary_input, rows_of(case))
    return CaseRequest(peer.path, json.dumps(peer.ask(rows_of(case)), separators=(",", ":")).encode())


def flat(value: Any) -> list[float]:
    """The numbers of nested lists, in order."""
    return [number for one in value for number in flat(one)] if isinstance(value, list) else [float(value)]


def _binary_numbers(body: bytes) -> list[float]:
    """The first output of a V2 response: JSON, then the bytes of the tensors."""
    document, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    output = document["outputs"][0]
    if "data" in output:
        return flat(output["data"])
    size = output["parameters"]["binary_data_size"]
    return [float(number) for number in np.frombuffer(body[end : end + size], _DTYPES[output["datatype"]])]


def numbers_of(peer: Peer, case: Case, body: bytes) -> list[float]:
    """The predictions in a response. Raises ServerFailed for a response of another shape."""
    try:
        return _binary_numbers(body) if case.binary else flat(peer.pick(decode(body)))
    except (KeyError, IndexError, TypeError, ValueError, StopIteration) as error:
        raise ServerFailed(f"a response of another shape: {body[:200]!r}") from error
