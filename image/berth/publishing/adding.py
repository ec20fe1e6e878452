"""From a file somebody trained to a version in the store: copy, load once, describe, prove by an example, write.

All that touches the file's content happens in a child process (serving/containment.py). This one copies the files,
takes their digests, and reads the manifest that the child wrote as it would read anybody's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from berth.errors import BerthError, IntegrityError, LoadError, StoreError
from berth.loaders.endings import external_files
from berth.loaders.formats import LoadOptions, detect_format
from berth.loaders.legacy.made_with import is_foreign, say_made_with
from berth.models.manifest import MANIFEST, SIGNATURE, Manifest, check_files, digest_file, encode_manifest, walk_files
from berth.models.model import Loaded
from berth.models.store import Entry, next_version, read_manifest, write_version
from berth.publishing.accelerating import ACCELERATED, accelerate_version
from berth.publishing.probing import find_row, is_batchable, shorten, with_shape
from berth.publishing.profiling import with_profile
from berth.publishing.request_sample import is_request, read_request
from berth.publishing.samples import Sample, decode_sample, describe_sample, read_sample
from berth.serving.containment import Report, contain
from berth.serving.opening import check_answers, load_verified
from berth.serving.trial import ANSWERED, LOADED, budget_of, import_everything
from berth.telemetry.logs import timestamp
from berth.tensors.arrays import Array, TensorSpec, datatype_of
from berth.tensors.schema import required

# Takes a line for people.
Tell: TypeAlias = Callable[[str], None]
_ACCELERATING = "its accelerated model was made"
# Comparing 10,000 rows takes as many times longer than loading the model.
_ACCELERATING_TIMES = 20.0
_EXAMPLE_ROWS = 3
_TOLERANCE = 1e-6
# A store reads no model.json above 4 MiB.
_EXAMPLE_BYTES = 1 << 20
# Formats whose outputs depend on their input alone.
_DETERMINISTIC = frozenset({"joblib", "pickle", "skops", "onnx", "xgboost", "lightgbm", "catboost"})


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
    steps: tuple[str, ...] = ()
    # Of the sample, to watch for drift.
    profile: bool = True


def _copy(source: Path, part: Path, format_: str) -> None:
    """Copy plain files only: a link could make the version hold what is not in it."""
    if source.is_dir():
        for name in walk_files(source):
            if "__pycache__" in Path(name).parts or name in (MANIFEST, SIGNATURE):
                continue
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, part / name)
    elif source.is_file():
        for name in external_files(source) if format_ == "onnx" else ():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.parent / name, part / name)
        # xgboost's users like to call their file as our manifest is called.
        shutil.copyfile(source, part / (f"artifact{source.suffix}" if source.name == MANIFEST else source.name))
    else:
        raise StoreError(f"{str(source)!r} is neither a file nor a folder")


def _describe_inputs(loaded: Loaded, request: AddRequest, sample: Sample | None) -> tuple[TensorSpec, ...]:
    if request.inputs:
        return request.inputs
    if sample is not None:
        return describe_sample(sample, loaded.inputs, loaded.guessed)
    if not loaded.inputs:
        raise LoadError("the artifact does not name its inputs; give --sample X.csv or --input NAME:DATATYPE:SHAPE")
    return loaded.inputs


def _describe_output(name: str, array: Array, spec: TensorSpec | None) -> TensorSpec:
    shape = (-1, *array.shape[1:]) if array.ndim else ()
    return spec or TensorSpec(name, datatype_of(array.dtype), shape)


def _describe_outputs(loaded: Loaded, request: AddRequest, tensors: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    """What was requested, else what the artifact says, else what it returns now."""
    known = {spec.name: spec for spec in request.outputs or loaded.outputs}
    answer = loaded.predict(tensors, [spec.name for spec in required(tuple(known.values()))])
    found = [_describe_output(name, array, known.get(name)) for name, array in answer.items()]
    return (*found, *(spec for spec in known.values() if spec.optional))


def _listed(array: Array) -> Any:
    """An array as JSON lists, in which NaN and infinities are null."""
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array.astype(object), None)  # type: ignore[call-overload]
    return array.tolist()


def make_example(
    loaded: Loaded, tensors: Mapping[str, Array], outputs: Sequence[TensorSpec], count: int = _EXAMPLE_ROWS
) -> dict[str, Any]:
    """A few rows (with a `count` of 0, all) and what the model returns now, as model.json keeps them."""
    rows = {name: array[:count] if count else array for name, array in tensors.items()}
    answer = loaded.predict(rows, [spec.name for spec in required(outputs)])
    return {
        "inputs": {name: _listed(array) for name, array in rows.items()},
        "outputs": {name: _listed(array) for name, array in answer.items()},
        "tolerance": _TOLERANCE,
    }


@dataclass(frozen=True)
class _Opened:
    """A loaded artifact, what it accepts, and rows that it predicts."""

    loaded: Loaded
    inputs: tuple[TensorSpec, ...]
    rows: Mapping[str, Array]
    sampled: bool


def _with_rows(manifest: Manifest, inputs: tuple[TensorSpec, ...], rows: Mapping[str, Array]) -> Manifest:
    """The manifest with the inputs of an example, by which an estimator finds out what it gives."""
    some = {name: _listed(array[:1]) for name, array in rows.items()}
    return replace(manifest, inputs=inputs, example={"inputs": some, "outputs": {}})


def _open(load: Callable[[Manifest], Loaded], manifest: Manifest, request: AddRequest) -> _Opened:
    """The artifact with inputs and rows; read again where the first reading had to guess what it accepts."""
    loaded = load(manifest)
    path = None if is_request(request.sample) else request.sample
    sample = read_sample(path, loaded.inputs, loaded.guessed) if path else None
    inputs = _describe_inputs(loaded, request, sample)
    if sample is None and request.sample is not None:
        rows, unusual = read_request(request.sample, inputs), True
    elif sample is None:
        rows, unusual = find_row(loaded, inputs, [spec.name for spec in required(request.outputs or loaded.outputs)])
    else:
        rows, unusual = decode_sample(sample, inputs), not loaded.inputs or bool(loaded.guessed)
    if loaded.estimator is not None and unusual:
        loaded = load(_with_rows(manifest, inputs, rows))
    return _Opened(loaded, inputs, rows, sample is not None)


def _may_cut(manifest: Manifest) -> bool:
    """Whether fewer rows than there are make a request that the model accepts."""
    return manifest.batchable and all(spec.shape[0] == -1 for spec in required(manifest.inputs))


def _with_example(manifest: Manifest, loaded: Loaded, rows: Mapping[str, Array]) -> Manifest:
    """The manifest with an example of as many rows as keep it small; of images one may be too much."""
    for count in (_EXAMPLE_ROWS, 1) if _may_cut(manifest) else (0,):
        full = replace(manifest, example=make_example(loaded, rows, manifest.outputs, count))
        if len(encode_manifest(full)) <= _EXAMPLE_BYTES:
            return full
    return manifest


def _describe(opened: _Opened, manifest: Manifest, request: AddRequest) -> Manifest:
    """The manifest completed by asking the loaded artifact."""
    loaded, metadata = opened.loaded, dict(request.metadata)
    if manifest.format in _DETERMINISTIC:
        metadata.setdefault("deterministic", True)
    manifest = replace(manifest, inputs=opened.inputs, metadata=metadata, built_with=dict(loaded.built_with))
    try:
        outputs = _describe_outputs(loaded, request, opened.rows)
        if not (batchable := is_batchable(loaded, opened.inputs, opened.rows, outputs)):
            outputs = tuple(with_shape(spec, loaded, opened.rows) for spec in outputs)
        manifest = replace(manifest, outputs=outputs, batchable=batchable)
        return _with_example(manifest, loaded, opened.rows)
    except BerthError:
        raise
    except Exception as error:  # whatever a model raises, it does not predict
        raise LoadError(f"the model does not predict its sample: {shorten(error)}") from error


def _draws(opened: _Opened, manifest: Manifest) -> bool:
    """Whether the model returns something else for the same rows each time: then no example can be compared."""
    again = _with_example(manifest, opened.loaded, opened.rows)
    return manifest.format not in _DETERMINISTIC and again.example != manifest.example


def _make(part: Path, manifest: Manifest, request: AddRequest, options: LoadOptions, report: Report) -> None:
    """In the child: write the manifest, and the accelerated model where there is one."""
    entry = Entry(manifest.name, manifest.version, part)
    opened = _open(lambda known: load_verified(entry, known, options), manifest, request)
    report.step(ANSWERED)
    made_with = opened.loaded.built_with.get("scikit-learn")
    if opened.loaded.estimator is not None and made_with is not None and is_foreign(made_with):
        report.say(f"{say_made_with(made_with)}: read with the meaning of its own version")
    manifest = _describe(opened, manifest, request)
    if manifest.example is not None and not _draws(opened, manifest):
        check_answers(entry, manifest, opened.loaded)
    else:
        manifest = replace(manifest, example=None)
    if opened.sampled and request.profile:
        manifest = with_profile(opened.loaded, manifest, opened.rows)
    report.step(_ACCELERATING, _ACCELERATING_TIMES)
    manifest = accelerate_version(
        opened.loaded, manifest, opened.rows if opened.sampled else None, part, options, report.say
    )
    (part / MANIFEST).write_bytes(encode_manifest(manifest))


def _check_made(part: Path, draft: Manifest) -> None:
    """That the child wrote what it should: the files as they were copied, described. Raises an OperatorError."""
    made = read_manifest(Entry(draft.name, draft.version, part))
    check_files(part, made)
    more = {name: digest for name, digest in made.files.items() if draft.files.get(name) != digest}
    if made.format != draft.format or draft.files.keys() - made.files.keys() or more.keys() - {ACCELERATED}:
        raise IntegrityError(f"{draft.name}@{draft.version}: the files changed while the version was made")


def add_version(
    store: Path,
    source: Path,
    request: AddRequest,
    options: LoadOptions,
    tell: Tell = lambda line: None,
    meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Entry:
    """Put a model file (or folder) into the store under a name and version; all of it or nothing.

    `tell` gets one line on how it will be served, where there is a choice. `meanwhile` is entered after the fork, for
    what needs a thread. Raises StoreError (already there), UnsafeArtifact, LoadError.
    """
    if not source.exists():
        raise StoreError(f"{str(source)!r} does not exist")
    format_ = request.format or detect_format(source)
    version = request.version or next_version(store, request.name)

    def fill(part: Path) -> None:
        _copy(source, part, format_)
        files = {name: digest_file(part / name) for name in walk_files(part)}
        draft = Manifest(
            request.name,
            version,
            format_,
            timestamp(),
            files,
            inputs=request.inputs,
            outputs=request.outputs,
            metadata=request.metadata,
            architecture=request.architecture,
            steps=request.steps,
        )
        import_everything(part, draft, options)
        budget, name = budget_of(part, draft, options), f"{request.name}@{version}"
        contain(name, lambda report: _make(part, draft, request, options, report), budget, LOADED, tell, meanwhile)
        _check_made(part, draft)

    return write_version(store, request.name, version, fill)
