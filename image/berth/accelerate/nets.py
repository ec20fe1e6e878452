"""A TorchScript module's accelerated model: exported to ONNX by torch itself, and proven; or the reason why not.

Only scripts are exported: their control flow is in the file, and stays in the ONNX model. What torch would have to
trace may take another way for other rows, which no comparison finds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path

import numpy as np

from berth.accelerate.convert import encode_model
from berth.accelerate.make import Accelerated, attempt, weigh
from berth.accelerate.proving_rows import ROWS
from berth.accelerate.refusal import Refusal
from berth.accelerate.session import load_accelerated
from berth.models.model import Loaded
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec

_STEP = "the module"
# All rows together; an image has many numbers, and a module for images takes its time.
_MOST_NUMBERS, _FEWEST_ROWS = 4_000_000, 64
# Numbers far from what the module was trained on must give equal outputs as well.
_SCALES = (0.01, 1.0, 1.0, 100.0)
_EDGES = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e30)


def _check_form(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], sample: Tensors | None) -> Refusal | None:
    """What can be said without trying."""
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        return Refusal("berth", f'{missing[0]} is not installed; pip install "berth[accelerate]"')
    if odd := [spec for spec in (*inputs, *outputs) if -1 in spec.shape[1:] or spec.shape[:1] != (-1,)]:
        return Refusal(_STEP, f"{odd[0].name} has the shape {list(odd[0].shape)}")
    whole = [spec.name for spec in inputs if not spec.datatype.startswith("FP")]
    if whole and sample is None:
        return Refusal(_STEP, f"no value is known that {whole[0]} may have; give --sample X.csv")
    return None


def _draw(spec: TensorSpec, sample: Array | None, rows: int, rng: np.random.Generator) -> Array:
    """Rows of one input: the sample's, shaken; or numbers of several sizes. Some have NaN, infinity or zero."""
    dtype = DATATYPES[spec.datatype]
    if sample is not None:
        drawn = sample[rng.integers(len(sample), size=rows)]
        if dtype.kind != "f":
            return drawn
        spread = sample.std(axis=0, dtype=np.float64) + 1e-3
        drawn = drawn + rng.normal(size=drawn.shape) * spread * rng.choice([0.0, 0.1, 1.0], size=(rows, 1))
    else:
        scale = rng.choice(_SCALES, size=(rows, *(1 for _ in spec.shape[1:])))
        drawn = rng.normal(size=(rows, *spec.shape[1:])) * scale
    flat = drawn.reshape(rows, -1)
    for row, edge in enumerate(_EDGES):
        flat[row, rng.integers(flat.shape[1])] = edge
    return np.asarray(drawn, dtype)


def _export(loaded: Loaded, rows: Tensors, outputs: Sequence[TensorSpec], path: Path) -> None:
    import onnx
    import torch

    given = tuple(torch.from_numpy(np.ascontiguousarray(rows[name][:2])) for name in loaded.arguments)
    names = [spec.name for spec in outputs]
    torch.onnx.export(
        loaded.module,
        given,
        str(path),
        input_names=list(loaded.arguments),
        output_names=names,
        dynamic_axes={name: {0: "rows"} for name in (*loaded.arguments, *names)},
        dynamo=False,  # the other exporter accepts no scripts
    )
    meta = {"onnxruntime": version("onnxruntime"), "outputs": {name: name for name in names}, "net": True}
    path.write_bytes(encode_model(onnx.load(path), meta))


def _try(
    loaded: Loaded,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    sample: Tensors | None,
    path: Path,
    threads: int,
) -> Accelerated | Refusal:
    numbers = sum(prod(spec.shape[1:]) for spec in inputs)
    count = min(ROWS, max(_FEWEST_ROWS, _MOST_NUMBERS // numbers))
    rng = np.random.default_rng(0)
    rows = {spec.name: _draw(spec, None if sample is None else sample[spec.name], count, rng) for spec in inputs}
    _export(loaded, rows, outputs, path)
    fast = load_accelerated(path, inputs, outputs, threads).predict
    return weigh(loaded.predict, fast, rows, outputs, _STEP)


def make_accelerated_net(
    loaded: Loaded,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    sample: Tensors | None,
    path: Path,
    threads: int,
) -> Accelerated | Refusal:
    """Write the accelerated model of a loaded script to `path`, proven; or nothing, and the reason."""
    refusal = _check_form(inputs, outputs, sample)
    return refusal or attempt(lambda: _try(loaded, inputs, outputs, sample, path, threads), path, _STEP)
