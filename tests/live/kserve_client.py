"""Run by KServe's own Python (bench/.venvs/kserve): its gRPC client, unmodified, against the server at argv[1].

Every datatype of `echo` raw, and `doubles` typed, in batches of 1 and 64; it prints a JSON object.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

TYPES = {
    "BOOL": np.bool_,
    **{f"INT{bits}": getattr(np, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": getattr(np, f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": getattr(np, f"float{bits}") for bits in (16, 32, 64)},
    "BYTES": np.object_,
}


def values(datatype: str, rows: int) -> Any:
    """[rows, 2] of a datatype."""
    if datatype == "BYTES":
        return np.array([[f"ä{number}".encode(), b""] for number in range(rows)], dtype=np.object_)
    return (np.arange(2 * rows).reshape(rows, 2) % 100).astype(TYPES[datatype])


def echoed(response: Any, rows: int) -> list[str]:
    """The datatypes that did not come back as they were sent."""
    found = {output.name: output.as_numpy() for output in response.outputs}
    return [datatype for datatype in TYPES if (found[datatype.lower()] != values(datatype, rows)).any()]


async def infer(client: Any, rows: int) -> list[str]:
    """Send all datatypes at once."""
    inputs = []
    for datatype in TYPES:
        each = InferInput(datatype.lower(), [rows, 2], datatype)
        each.set_data_from_numpy(values(datatype, rows))
        inputs.append(each)
    return echoed(await client.infer(InferRequest("echo", inputs)), rows)


async def typed(client: Any, rows: int) -> bool:
    """Whether values that are not raw come back."""
    each = InferInput("fp64", [rows, 2], "FP64")
    each.set_data_from_numpy(values("FP64", rows), binary_data=False)
    response = await client.infer(InferRequest("doubles", [each]))
    return bool((response.outputs[0].as_numpy() == values("FP64", rows)).all())


async def main(url: str) -> dict[str, Any]:
    """What the client saw."""
    async with InferenceGRPCClient(url) as client:
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model": await client.is_model_ready("echo"),
            "wrong": {str(rows): await infer(client, rows) for rows in (1, 64)},
            "typed": [await typed(client, rows) for rows in (1, 64)],
            "types": len(TYPES),
        }


print(json.dumps(asyncio.run(main(sys.argv[1]))))
