"""A request as sample: `--sample request.json`, for a model whose inputs no table holds or no row can be made up for.

What `POST /predict` accepts is accepted here: `{"inputs": {name: array}}` or `{"features": rows}`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from berth.errors import InvalidInput, LoadError
from berth.tensors.arrays import Array, TensorSpec
from berth.tensors.schema import check_tensors, decode_features, decode_tensors, required

_MOST_ROWS = 1 << 20


def is_request(path: Path | None) -> bool:
    """Whether a sample is a request and no CSV."""
    return path is not None and path.suffix.lower() == ".json"


def read_request(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The tensors of a request, by the names of the inputs that are read. Raises LoadError."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"the sample {path.name} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict) or not {"inputs", "features"} & document.keys():
        raise LoadError(f'the sample {path.name} is no request; want {{"inputs": {{NAME: array, …}}}}')
    if not specs:
        raise LoadError("the artifact does not describe its inputs; give --input NAME:DATATYPE:SHAPE beside the sample")
    try:
        features = document.get("features")
        tensors = decode_features(features, specs) if features is not None else _decode(document["inputs"], specs)
        return check_tensors(tensors, specs, _MOST_ROWS, batchable=False)
    except InvalidInput as error:
        raise LoadError(f"the sample {path.name} does not fit the model: {error.message}") from error


def _decode(inputs: object, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    if not isinstance(inputs, dict):
        names = ", ".join(repr(spec.name) for spec in required(specs))
        raise InvalidInput(f"inputs must be an object with {names}")
    return decode_tensors(inputs, specs)
