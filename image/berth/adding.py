"""From a file somebody trained to a version in the store: copy, load once, describe, prove by an example, write."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from berth.errors import LoadError, StoreError
from berth.loaders import LoadOptions, detect_format
from berth.logs import timestamp
from berth.manifest import MANIFEST, Manifest, digest_file, encode_manifest, walk_files
from berth.model import Loaded
from berth.opening import blank_inputs, load_verified
from berth.schema import check_tensors, is_matrix
from berth.store import Entry, list_versions, version_key, write_version
from berth.tensors import DATATYPES, Array, TensorSpec, convert_array, datatype_of

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLE_ROWS = 3
_TOLERANCE = 1e-6
# Formats whose answers depend on their input alone.
_DETERMINISTIC = frozenset({"joblib", "pickle", "skops", "onnx", "xgboost", "lightgbm"})


@dataclass(frozen=True)
class AddRequest:
    """What to call a version and what to note about it; empty means: find it out."""

    name: str
    version: str = ""
    format: str = ""
    sample: Path | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    architecture: Mapping[str, Any] | None = None


def next_version(store: Path, name: str) -> str:
    """The natural number after the highest version there is; 1 for a new model."""
    entries = list_versions(store, name)
    if not entries:
        return "1"
    numbers = version_key(entries[-1].version)[1]
    assert isinstance(numbers, tuple)  # noqa: S101 - for the type checker
    return str(numbers[0] + 1) if numbers else "1"


def _copy(source: Path, part: Path) -> None:
    """Copy plain files only: a link could make the version hold what is not in it."""
    if source.is_symlink():
        source = source.resolve(strict=True)
    if source.is_dir():
        for name in walk_files(source):
            if "__pycache__" in Path(name).parts or name == MANIFEST:
                continue
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, part / name)
    elif source.is_file():
        shutil.copyfile(source, part / source.name)
    else:
        raise StoreError(f"{str(source)!r} is neither a file nor a folder")


def read_sample(path: Path) -> pd.DataFrame:
    """A CSV file with a header. Raises LoadError."""
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise LoadError(f"the sample {path.name} cannot be read as CSV with a header: {error}") from error
    if not len(frame):
        raise LoadError(f"the sample {path.name} has no rows")
    return frame


def _column_array(column: pd.Series[Any], datatype: str) -> Array:
    if datatype == "BYTES":
        array = np.empty(len(column), object)
        array[:] = [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
        return array
    return convert_array(column.to_numpy(), datatype, f"sample column {column.name!r}")


def sample_tensors(frame: pd.DataFrame, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The sample's rows as the model's tensors. Raises LoadError when its columns are not the model's."""
    if is_matrix(specs):
        width = specs[0].shape[1]
        if width not in (-1, frame.shape[1]):
            raise LoadError(
                f"the sample has {frame.shape[1]} columns, but the model takes {width}; leave the target out"
            )
        return {specs[0].name: frame.to_numpy(DATATYPES[specs[0].datatype])}
    names = [str(name) for name in frame.columns]
    if missing := [spec.name for spec in specs if spec.name not in names]:
        raise LoadError(f"the sample lacks the column {missing[0]!r}; it has {', '.join(names[:20])}")
    return {spec.name: _column_array(frame[spec.name], spec.datatype) for spec in specs}


def _describe_inputs(loaded: Loaded, request: AddRequest, frame: pd.DataFrame | None) -> tuple[TensorSpec, ...]:
    if request.inputs:
        return request.inputs
    if frame is None:
        if not loaded.inputs:
            raise LoadError("the artifact does not tell its inputs; give --sample X.csv or --input NAME:DATATYPE:SHAPE")
        return loaded.inputs
    from berth.loaders.signature import describe_frame

    told = loaded.inputs
    if is_matrix(told):  # whatever it is called, it is the matrix, and the sample names its columns
        sample_tensors(frame, told)
        return (replace(told[0], columns=told[0].columns or tuple(str(name) for name in frame.columns)),)
    return describe_frame(frame, told)


def _describe_output(name: str, array: Array, spec: TensorSpec | None) -> TensorSpec:
    shape = (-1, *array.shape[1:])
    return spec or TensorSpec(name, datatype_of(array.dtype), shape)


def _describe_outputs(loaded: Loaded, request: AddRequest, tensors: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    """What was asked for, else what the artifact tells, else what it answers now."""
    known = {spec.name: spec for spec in request.outputs or loaded.outputs}
    answer = loaded.predict(tensors, list(known))
    return tuple(_describe_output(name, array, known.get(name)) for name, array in answer.items())


def _listed(array: Array) -> Any:
    """An array as JSON lists, in which NaN is null."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), None, array.astype(object))  # type: ignore[call-overload]
    return array.tolist()


def _make_example(loaded: Loaded, tensors: Mapping[str, Array], outputs: Sequence[TensorSpec]) -> dict[str, Any]:
    rows = {name: array[:_EXAMPLE_ROWS] for name, array in tensors.items()}
    answer = loaded.predict(rows, [spec.name for spec in outputs])
    return {
        "inputs": {name: _listed(array) for name, array in rows.items()},
        "outputs": {name: _listed(array) for name, array in answer.items()},
        "tolerance": _TOLERANCE,
    }


def _describe(entry: Entry, manifest: Manifest, request: AddRequest, options: LoadOptions) -> Manifest:
    """The manifest completed by loading the artifact once and asking it."""
    loaded = load_verified(entry, manifest, options)
    frame = read_sample(request.sample) if request.sample else None
    inputs = _describe_inputs(loaded, request, frame)
    tensors = sample_tensors(frame, inputs) if frame is not None else blank_inputs(inputs, 1)
    tensors = check_tensors(tensors, inputs, max_rows=1 << 30)
    metadata = dict(request.metadata)
    if manifest.format in _DETERMINISTIC:
        metadata.setdefault("deterministic", True)
    manifest = replace(manifest, inputs=inputs, metadata=metadata, built_with=dict(loaded.built_with))
    try:
        outputs = _describe_outputs(loaded, request, tensors)
        return replace(manifest, outputs=outputs, example=_make_example(loaded, tensors, outputs))
    except Exception as error:
        if frame is None and loaded.outputs:  # blank rows prove nothing: the model may refuse them
            return replace(manifest, outputs=request.outputs or loaded.outputs)
        raise LoadError(f"the model does not answer its sample: {' '.join(str(error).split())[:500]}") from error


def add_version(store: Path, source: Path, request: AddRequest, options: LoadOptions) -> Entry:
    """Put a model file (or folder) into the store under a name and version; all of it or nothing.

    Raises StoreError (already there), UnsafeArtifact, LoadError.
    """
    if not source.exists():
        raise StoreError(f"{str(source)!r} does not exist")
    format_ = request.format or detect_format(source)
    version = request.version or next_version(store, request.name)

    def fill(part: Path) -> None:
        _copy(source, part)
        files = {name: digest_file(part / name) for name in walk_files(part)}
        manifest = Manifest(
            request.name,
            version,
            format_,
            timestamp(),
            files,
            inputs=request.inputs,
            outputs=request.outputs,
            metadata=request.metadata,
            architecture=request.architecture,
        )
        manifest = _describe(Entry(request.name, version, part), manifest, request, options)
        (part / MANIFEST).write_bytes(encode_manifest(manifest))

    return write_version(store, request.name, version, fill)
