"""Predictions from a version's accelerated model: onnxruntime alone, scikit-learn and torch are never imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from berth.accelerate.chains import Chains, read_chains
from berth.accelerate.limits import decode_limits, make_check
from berth.errors import LoadError
from berth.loaders.onnx import open_session
from berth.models.model import Loaded, PredictFunction
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec
from berth.tensors.schema import required

META = "berth"
# In ONNX a string cannot be missing; this noncharacter stands for it.
MISSING = "\ufdd0"
# A forest of 100 trees and 10 classes takes 8 kB a row while it predicts; this bounds the sum.
_MOST_ROWS = 4096
# Up to so many numpy is quicker where the model is a chain of a few of its functions.
_FEW_ROWS = 1024


def _encode_text(array: Array) -> Array:
    """Strings as onnxruntime accepts them, in a column of their own. Raises ValueError for bytes that are no text."""
    values = array.tolist()
    if MISSING in values:  # somebody sends the mark itself: to the model it is one more unknown text
        values = [2 * value if value == MISSING else value for value in values]
    values = [MISSING if value is None else value for value in values]
    if any(type(value) is not str for value in values):
        raise ValueError("a string is not UTF-8")
    column = np.empty((len(values), 1), object)
    column[:, 0] = values
    return column


def _feeder(spec: TensorSpec, is_net: bool) -> Callable[[Array], Array]:
    if is_net:
        return partial(np.asarray, dtype=DATATYPES[spec.datatype])
    if spec.datatype == "BYTES":
        return _encode_text
    # Whole numbers and truths too: skl2onnx joins columns of one type only, and scikit-learn makes doubles of them.
    if len(spec.shape) == 1:
        return lambda array: np.asarray(array, np.float64).reshape(-1, 1)
    return lambda array: np.asarray(array, np.float64)


def _reader(spec: TensorSpec) -> Callable[[Array], Array]:
    dtype, dimensions = DATATYPES[spec.datatype], len(spec.shape)

    def read(array: Array) -> Array:
        if array.ndim != dimensions:
            array = array.reshape(spec.shape)
        return array.astype(dtype, copy=False)

    return read


def _read_chains(chains: Mapping[str, Any], nodes: Mapping[str, str]) -> dict[tuple[str, ...], Chains]:
    """By the outputs that a request wants: one, or all that have a chain, in both orders where these are two."""
    steps = {name: chains[node] for name, node in nodes.items() if node in chains}
    orders = [*((name,) for name in steps), tuple(steps), tuple(reversed(steps))]
    return {order: read_chains([steps[name] for name in order]) for order in orders if order}


def _follow(chains: Chains, given: tuple[str, Array]) -> list[Array]:
    try:
        return chains(given[1])
    except ValueError as error:  # numpy does not name the input
        raise ValueError(f"{given[0]}: {error}") from error


def answer_with(
    session: Any, meta: Mapping[str, Any], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> PredictFunction:
    """The predict function of an open session; only the wanted outputs are computed."""
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    is_net = bool(meta.get("net"))  # a torch module: its inputs are what they are, and it accepts all numbers
    feeders = [(spec.name, _feeder(spec, is_net)) for spec in required(inputs)]
    readers = {spec.name: _reader(spec) for spec in outputs}
    nodes: dict[str, str] = meta["outputs"]
    check = make_check({} if is_net else decode_limits(meta["limits"]), () if is_net else inputs)

    chains = _read_chains(meta.get("chains", {}), nodes)
    # Its inputs and outputs are those that it was proven with: what the Python class around the session checks of every
    # call (for graphs of other kinds, and names) is known.
    compute = session._sess.run

    def run(wanted: Sequence[str], feed: dict[str, Array]) -> dict[str, Array]:
        answers = compute([nodes[name] for name in wanted], feed, None)
        return {name: readers[name](answer) for name, answer in zip(wanted, answers, strict=True)}

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        check(tensors)
        feed = {name: give(tensors[name]) for name, give in feeders}
        count = len(next(iter(feed.values())))
        try:
            if count <= _FEW_ROWS and (known := chains.get(tuple(wanted))) is not None:
                answers = _follow(known, *feed.items())
                return {name: readers[name](answer) for name, answer in zip(wanted, answers, strict=True)}
            if count <= _MOST_ROWS:
                return run(wanted, feed)
            cuts = [slice(at, at + _MOST_ROWS) for at in range(0, count, _MOST_ROWS)]
            parts = [run(wanted, {name: array[cut] for name, array in feed.items()}) for cut in cuts]
        except InvalidArgument as error:
            raise ValueError(str(error)) from error
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}

    return predict


def load_accelerated(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], cpu_threads: int
) -> Loaded:
    """A file that `berth add` wrote, and the onnxruntime it was proven with. Raises LoadError."""
    session = open_session(path, cpu_threads)
    try:
        meta = json.loads(session.get_modelmeta().custom_metadata_map[META])
        predict = answer_with(session, meta, inputs, outputs)
        return Loaded(predict, tuple(inputs), tuple(outputs), {"onnxruntime": meta["onnxruntime"]})
    except (KeyError, ValueError, TypeError) as error:
        raise LoadError(f"{path.name} is not an accelerated model that berth wrote: {error!r}") from error
