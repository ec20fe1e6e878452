"""ONNX files, run by onnxruntime in one session that all threads share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from berth.errors import LoadError
from berth.loaders.artifacts import find_artifact, spec_of, zeros_for
from berth.loaders.formats import LoadOptions
from berth.loaders.onnx_refusals import explain_refusal, shorten
from berth.loaders.onnxruntime_library import import_onnxruntime
from berth.loaders.recognition import check_is
from berth.models.manifest import Manifest
from berth.models.model import Loaded, PredictFunction
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
# skl2onnx's ZipMap: a list of one {label: probability} a row.
_ZIPMAP_PREFIX = "seq(map("
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_LOG_FATAL_ONLY = 4

# What it says of memory that runs out, which is not the values' fault.
_MEMORY = "Failed to allocate memory"

_Convert = Callable[[Any], Array]


def open_session(path: Path, cpu_threads: int) -> Any:
    """An onnxruntime session for `path`, on CUDA where there is one. Raises UnsafeArtifact, LoadError."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_FATAL_ONLY
    # Spinning threads burn the CPU quota that the other workers need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    present = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[name for name in _PROVIDERS if name in present]
        )
    except Exception as error:  # onnxruntime's errors share no class but Exception
        raise explain_refusal(path.name, error) from error


def _declared_spec(node: Any, kind: str) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise LoadError(f"the {kind} {node.name!r} is of type {node.type}, which no tensor datatype can carry")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _input_specs(session: Any) -> tuple[TensorSpec, ...]:
    specs = tuple(_declared_spec(node, "input") for node in session.get_inputs())
    if len(specs) > 1 and all(spec.shape == (-1, 1) for spec in specs):  # skl2onnx's way to take a frame
        return tuple(replace(spec, shape=(-1,)) for spec in specs)
    return specs


def _feed(session: Any, tensors: Tensors) -> dict[str, Array]:
    """The tensors as the graph accepts them: a column of its own where that is what it declares."""
    ranks = {node.name: len(node.shape) for node in session.get_inputs()}
    return {
        name: array.reshape(-1, 1) if (array.ndim, ranks.get(name)) == (1, 2) else array
        for name, array in tensors.items()
    }


def _probe(session: Any, inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Every output for two rows of zeros; empty when the model refuses zeros."""
    names = [node.name for node in session.get_outputs()]
    try:
        return dict(zip(names, session.run(None, _feed(session, zeros_for(inputs))), strict=True))
    except Exception:  # as in open_session; the caller reports what stays unknown
        return {}


def _unzip(labels: Sequence[Any]) -> _Convert:
    def convert(rows: Any) -> Array:
        return np.array([[row[label] for label in labels] for row in rows], np.float32)

    return convert


def _read_zipmap(name: str, rows: Any) -> tuple[TensorSpec, _Convert]:
    if not rows or not isinstance(rows[0], dict):
        raise LoadError(
            f"the output {name!r} is a list of maps whose labels are not to be found out; "
            "convert again with options={'zipmap': False}"
        )
    labels = tuple(rows[0])
    return TensorSpec(name, "FP32", (-1, len(labels)), labels=labels), _unzip(labels)


def _output_specs(session: Any, inputs: Sequence[TensorSpec]) -> Iterator[tuple[TensorSpec, _Convert]]:
    nodes = session.get_outputs()
    probed = {} if all(node.shape for node in nodes) else _probe(session, inputs)
    for node in nodes:
        answer = probed.get(node.name)
        if node.type.startswith(_ZIPMAP_PREFIX):
            yield _read_zipmap(node.name, answer)
            continue
        spec = _declared_spec(node, "output")
        if isinstance(answer, np.ndarray) and not spec.shape and answer.ndim:
            spec = spec_of(node.name, answer)
        # Beside outputs that have rows, a scalar is of no use.
        if spec.shape or not any(other.shape for other in nodes):
            yield spec, np.asarray


def _predict_with(session: Any, inputs: Sequence[TensorSpec], converts: dict[str, _Convert]) -> PredictFunction:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

    dtypes = {spec.name: DATATYPES[spec.datatype] for spec in inputs}

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        feed = _feed(session, {name: np.asarray(tensors[name], dtype) for name, dtype in dtypes.items()})
        try:
            answers = session.run(list(wanted), feed)
        except (InvalidArgument, Fail, RuntimeException) as error:  # a width, or text that is no number
            if _MEMORY in str(error):
                raise
            raise ValueError(shorten(error)) from error
        return {name: converts[name](answer) for name, answer in zip(wanted, answers, strict=True)}

    return predict


def load_onnx(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """The version's .onnx file. Raises UnsafeArtifact for data outside the folder, LoadError for the rest."""
    onnxruntime = import_onnxruntime()
    path = find_artifact(directory, manifest, (".onnx",))
    check_is(path, "onnx")
    session = open_session(path, options.cpu_threads)
    inputs = _input_specs(session)
    outputs = list(_output_specs(session, inputs))
    return Loaded(
        _predict_with(session, inputs, {spec.name: convert for spec, convert in outputs}),
        inputs,
        tuple(spec for spec, _ in outputs),
        {"onnxruntime": onnxruntime.__version__},
    )
