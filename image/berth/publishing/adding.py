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

from berth.accelerate.make import make_accelerated
from berth.accelerate.nets import make_accelerated_net
from berth.accelerate.refusal import Refusal
from berth.errors import IntegrityError, LoadError, StoreError
from berth.loaders.formats import LoadOptions, detect_format
from berth.loaders.legacy.made_with import is_foreign, say_made_with
from berth.models.manifest import MANIFEST, Manifest, check_files, digest_file, encode_manifest, walk_files
from berth.models.model import Loaded
from berth.models.store import Entry, list_versions, read_manifest, version_key, write_version
from berth.publishing.profiling import with_profile
from berth.publishing.samples import Sample, decode_sample, describe_sample, read_sample
from berth.serving.containment import Report, contain
from berth.serving.opening import load_verified
from berth.serving.trial import ANSWERED, LOADED, budget_for, import_libraries, size_of
from berth.telemetry.logs import timestamp
from berth.tensors.arrays import Array, TensorSpec, datatype_of
from berth.tensors.schema import blank_inputs

ACCELERATED = "accelerated.onnx"
# Takes a line for people.
Tell: TypeAlias = Callable[[str], None]
_ACCELERATING = "its accelerated form was made"
# Comparing 10,000 rows takes as many times longer than loading the model.
_ACCELERATING_TIMES = 20.0
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
    # Of the sample, to watch for drift.
    profile: bool = True


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
    if source.is_dir():
        for name in walk_files(source):
            if "__pycache__" in Path(name).parts or name == MANIFEST:
                continue
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, part / name)
    elif source.is_file():
        # xgboost's users like to call their file as our manifest is called.
        shutil.copyfile(source, part / (f"artifact{source.suffix}" if source.name == MANIFEST else source.name))
    else:
        raise StoreError(f"{str(source)!r} is neither a file nor a folder")


def _describe_inputs(loaded: Loaded, request: AddRequest, sample: Sample | None) -> tuple[TensorSpec, ...]:
    if request.inputs:
        return request.inputs
    if sample is not None:
        return describe_sample(sample, loaded.inputs)
    if not loaded.inputs:
        raise LoadError("the artifact does not tell its inputs; give --sample X.csv or --input NAME:DATATYPE:SHAPE")
    return loaded.inputs


def _describe_output(name: str, array: Array, spec: TensorSpec | None) -> TensorSpec:
    shape = (-1, *array.shape[1:])
    return spec or TensorSpec(name, datatype_of(array.dtype), shape)


def _describe_outputs(loaded: Loaded, request: AddRequest, tensors: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    """What was asked for, else what the artifact tells, else what it answers now."""
    known = {spec.name: spec for spec in request.outputs or loaded.outputs}
    answer = loaded.predict(tensors, list(known))
    return tuple(_describe_output(name, array, known.get(name)) for name, array in answer.items())


def _listed(array: Array) -> Any:
    """An array as JSON lists, in which NaN and infinities are null."""
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array.astype(object), None)  # type: ignore[call-overload]
    return array.tolist()


def make_example(loaded: Loaded, tensors: Mapping[str, Array], outputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """A few rows and what the model answers now, as model.json keeps them."""
    rows = {name: array[:_EXAMPLE_ROWS] for name, array in tensors.items()}
    answer = loaded.predict(rows, [spec.name for spec in outputs])
    return {
        "inputs": {name: _listed(array) for name, array in rows.items()},
        "outputs": {name: _listed(array) for name, array in answer.items()},
        "tolerance": _TOLERANCE,
    }


def _describe(loaded: Loaded, manifest: Manifest, request: AddRequest, sample: Sample | None) -> Manifest:
    """The manifest completed by asking the loaded artifact."""
    inputs = _describe_inputs(loaded, request, sample)
    tensors = decode_sample(sample, inputs) if sample is not None else blank_inputs(inputs, 1)
    metadata = dict(request.metadata)
    if manifest.format in _DETERMINISTIC:
        metadata.setdefault("deterministic", True)
    manifest = replace(manifest, inputs=inputs, metadata=metadata, built_with=dict(loaded.built_with))
    try:
        outputs = _describe_outputs(loaded, request, tensors)
        return replace(manifest, outputs=outputs, example=make_example(loaded, tensors, outputs))
    except Exception as error:  # whatever a model raises, it does not answer
        if sample is None and loaded.outputs:  # blank rows prove nothing: the model may refuse them
            return replace(manifest, outputs=request.outputs or loaded.outputs)
        raise LoadError(f"the model does not answer its sample: {' '.join(str(error).split())[:500]}") from error


def _accelerate(
    loaded: Loaded, manifest: Manifest, folder: Path, sample: Sample | None, options: LoadOptions, tell: Tell
) -> Manifest:
    """The manifest with the accelerated form, or with the reason why there is none."""
    if loaded.estimator is None and loaded.module is None:
        return manifest
    if (folder / ACCELERATED).exists():
        return replace(manifest, accelerated={"reason": f"its own files hold one called {ACCELERATED}"})
    if options.accelerate == "off":
        return replace(manifest, accelerated={"reason": "BERTH_ACCELERATE was off when it was added"})
    tensors = decode_sample(sample, manifest.inputs) if sample is not None else None
    path = folder / ACCELERATED
    make = make_accelerated if loaded.module is None else make_accelerated_net
    result = make(loaded, manifest.inputs, manifest.outputs, tensors, path, options.cpu_threads)
    tell(f"served plain: {result}" if isinstance(result, Refusal) else f"accelerated: {result}")
    if isinstance(result, Refusal):
        return replace(manifest, accelerated={"reason": str(result)})
    return replace(
        manifest,
        files={**manifest.files, ACCELERATED: digest_file(path)},
        accelerated={
            "file": ACCELERATED,
            "rows_compared": result.proof.rows,
            "max_abs_error": result.proof.max_abs_error,
        },
    )


def _make(part: Path, manifest: Manifest, request: AddRequest, options: LoadOptions, report: Report) -> None:
    """In the child: write the manifest, and the accelerated form where there is one."""
    loaded = load_verified(Entry(manifest.name, manifest.version, part), manifest, options)
    report.step(ANSWERED)
    made_with = loaded.built_with.get("scikit-learn")
    if loaded.estimator is not None and made_with is not None and is_foreign(made_with):
        report.say(f"{say_made_with(made_with)}: read with the meaning of its own version")
    sample = read_sample(request.sample) if request.sample else None
    manifest = _describe(loaded, manifest, request, sample)
    if sample is not None and request.profile:
        manifest = with_profile(loaded, manifest, decode_sample(sample, manifest.inputs))
    report.step(_ACCELERATING, _ACCELERATING_TIMES)
    manifest = _accelerate(loaded, manifest, part, sample, options, report.say)
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
        _copy(source, part)
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
        )
        import_libraries(draft, options)
        budget, name = budget_for(options, format_, size_of(draft)), f"{request.name}@{version}"
        contain(name, lambda report: _make(part, draft, request, options, report), budget, LOADED, tell, meanwhile)
        _check_made(part, draft)

    return write_version(store, request.name, version, fill)
