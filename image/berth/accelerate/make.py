"""A version's accelerated model: converted, proven, written; or the reason why there is none."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from berth.accelerate.blame import find_step
from berth.accelerate.chains import find_chains
from berth.accelerate.convert import convert, encode_model, unwrap
from berth.accelerate.limits import Limits, encode_limits
from berth.accelerate.prove import Proof, prove
from berth.accelerate.proving_rows import ROWS, make_rows
from berth.accelerate.refusal import Refusal, one_line, step_name
from berth.accelerate.session import load_accelerated
from berth.accelerate.tried_limits import learn_limits
from berth.loaders.columns import is_text_part, takes_text
from berth.loaders.estimator import serve_estimator
from berth.loaders.fitted import walk_fitted
from berth.loaders.signature import example_row
from berth.models.model import Loaded, PredictFunction
from berth.tensors.arrays import Tensors, TensorSpec
from berth.tensors.schema import required

_TIMED_SECONDS = 0.05
# A large batch may be a little slower than the native model, for requests are small; not so slow that others wait.
_BATCH_SECONDS = 1.0
_BATCH_TIMES = 3.0
# What the compared rows may take together: fewer rows of a model of tens of thousands of columns.
_MOST_VALUES = 10_000_000
_FEWEST_ROWS = 100
# Each is a node of the graph and a column of the frame that the native model predicts.
_MOST_INPUTS = 5000
_NEEDED = ("onnx", "onnxruntime", "skl2onnx")
_DATATYPES = {"FP64", "INT64", "BOOL", "BYTES"}


@dataclass(frozen=True, slots=True)
class Accelerated:
    """An accelerated model that was proven, and the milliseconds that one row takes both ways."""

    proof: Proof
    plain_ms: float
    fast_ms: float

    def __str__(self) -> str:
        return (
            f"exact on {self.proof.rows} rows, max error {self.proof.max_abs_error:.2g}, "
            f"1 row {self.plain_ms:.2g} ms -> {self.fast_ms:.2g} ms"
        )


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be accelerated: a model as it was loaded, or the part of it that ends with one step."""

    loaded: Loaded
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    sample: Tensors | None
    path: Path
    threads: int
    rows: int

    @property
    def estimator(self) -> Any:
        """What predicts."""
        return unwrap(self.loaded.estimator)


def _time_one(predict: PredictFunction, rows: Tensors, outputs: Sequence[TensorSpec]) -> float:
    """The milliseconds of one row: the quickest of a few."""
    one, names = {name: array[:1] for name, array in rows.items()}, [spec.name for spec in outputs]
    best, ends = float("inf"), time.perf_counter() + _TIMED_SECONDS
    while (began := time.perf_counter()) < ends:
        predict(one, names)
        best = min(best, time.perf_counter() - began)
    return 1000 * best


def _tell_slow(made: Accelerated) -> str | None:
    """Why an exact conversion is no gain; None if it is one."""
    proof = made.proof
    if made.fast_ms > made.plain_ms:
        return f"its ONNX model is exact, but slower: 1 row {made.plain_ms:.2g} ms -> {made.fast_ms:.2g} ms"
    if proof.fast_seconds > max(_BATCH_SECONDS, _BATCH_TIMES * proof.plain_seconds):
        return (
            f"its ONNX model is exact, but slower: {proof.rows} rows "
            f"{proof.plain_seconds:.2g} s -> {proof.fast_seconds:.2g} s"
        )
    return None


def weigh(
    plain: PredictFunction,
    fast: PredictFunction,
    rows: Tensors,
    outputs: Sequence[TensorSpec],
    step: str,
    exact: Collection[str] = (),
) -> Accelerated | Refusal:
    """What comes of an accelerated model that is there: proven and quicker, or in `step` the reason why not."""
    proof = prove(plain, fast, rows, outputs, exact)
    if isinstance(proof, str):
        return Refusal(step, f"{proof}, of {len(next(iter(rows.values())))} rows")
    made = Accelerated(proof, _time_one(plain, rows, outputs), _time_one(fast, rows, outputs))
    slow = _tell_slow(made)
    return made if slow is None else Refusal(step, slow)


def attempt(make: Callable[[], Accelerated | Refusal], path: Path, step: str) -> Accelerated | Refusal:
    """What `make` makes at `path`; nothing is there after a refusal, and what breaks is one."""
    try:
        # The rows go to the edges of what numbers can be; what numpy says of that, and torch of exporters, is no news.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = make()
    except Exception as error:  # what cannot be made, run or compared is not served
        result = Refusal(step, f"its ONNX model fails: {one_line(error)}")
    if isinstance(result, Refusal):
        path.unlink(missing_ok=True)
    return result


def _check_form(task: _Task) -> Refusal | None:
    """What can be said without trying."""
    estimator, outputs = task.loaded.estimator, task.outputs
    name = step_name("", estimator)
    if missing := [library for library in _NEEDED if importlib.util.find_spec(library) is None]:
        return Refusal("berth", f'{missing[0]} is not installed; pip install "berth[accelerate]"')
    texts = [part for part in walk_fitted(estimator) if is_text_part(part)]
    if texts or takes_text(estimator):
        return Refusal(step_name("", (texts or [estimator])[0]), "ONNX splits text into words in another way")
    if odd := [spec for spec in task.inputs if spec.datatype not in _DATATYPES or -1 in spec.shape[1:]]:
        return Refusal(name, f"the input {odd[0].name} is {odd[0].datatype} {list(odd[0].shape)}")
    if len(task.inputs) > _MOST_INPUTS:
        return Refusal(name, f"its {len(task.inputs)} inputs are too many to convert")
    if len(outputs) > 2 or any(-1 in spec.shape[1:] for spec in outputs):
        return Refusal(name, f"it has the outputs {', '.join(spec.name for spec in outputs)}")
    return None


def _limits(task: _Task) -> Limits | Refusal:
    estimator, sample = task.estimator, task.sample
    names = [spec.name for spec in task.outputs]

    def takes(tensors: Tensors) -> bool:
        try:
            task.loaded.predict(tensors, names)
        except Exception:  # whatever the model raises, it does not accept the row
            return False
        return True

    row = example_row(estimator, task.inputs) if sample is None else {name: array[:1] for name, array in sample.items()}
    try:
        limits = learn_limits(estimator, takes, row, task.inputs)
    except ValueError as error:
        return Refusal(step_name("", estimator), one_line(error))
    return limits or Refusal(step_name("", estimator), "no known row is accepted; give --sample X.csv")


def _write(model: Any, path: Path, limits: Limits, outputs: Sequence[TensorSpec]) -> None:
    nodes = dict(zip([spec.name for spec in outputs], [node.name for node in model.graph.output], strict=False))
    meta = {"onnxruntime": version("onnxruntime"), "outputs": nodes, "limits": encode_limits(limits)}
    if chains := find_chains(model):
        meta["chains"] = chains
    path.write_bytes(encode_model(model, meta))


def _try(task: _Task) -> Accelerated | Refusal:
    estimator, plain, outputs = task.estimator, task.loaded.predict, task.outputs
    limits = _limits(task)
    if isinstance(limits, Refusal):
        return limits
    model = convert(estimator, task.inputs)
    if isinstance(model, Refusal):
        return model
    _write(model, task.path, limits, required(task.loaded.outputs))
    width = sum(map(len, limits.values()))
    rows = make_rows(
        estimator, task.inputs, limits, task.sample, max(_FEWEST_ROWS, min(task.rows, _MOST_VALUES // width))
    )
    fast = load_accelerated(task.path, task.inputs, outputs, task.threads).predict
    exact = ["prediction"] if hasattr(estimator, "classes_") else []  # labels, whatever their datatype
    return weigh(plain, fast, rows, outputs, step_name("", estimator), exact)


def _attempt(task: _Task) -> Accelerated | Refusal:
    """The accelerated model at the task's path, or nothing there and the reason."""
    refusal = _check_form(task)
    return refusal or attempt(lambda: _try(task), task.path, step_name("", task.estimator))


def make_accelerated(
    loaded: Loaded,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    sample: Tensors | None,
    path: Path,
    threads: int,
    rows: int = ROWS,
) -> Accelerated | Refusal:
    """Write the accelerated model of a loaded estimator to `path`, proven; or nothing, and the step to blame."""
    task = _Task(loaded, inputs, required(outputs), sample, path, threads, rows)
    result = _attempt(task)
    if isinstance(result, Accelerated):
        return result

    def attempt_part(part: Any) -> Refusal | None:
        try:
            alone = serve_estimator(part, inputs, {})
        except Exception:  # cut off from the rest it may not work at all, and then it says nothing
            return None
        tried = _attempt(replace(task, loaded=alone, outputs=required(alone.outputs)))
        path.unlink(missing_ok=True)
        return tried if isinstance(tried, Refusal) else None

    return find_step(task.estimator, result, attempt_part)
