"""From a folder to a model that may predict: verify, check versions, load, warm up, compare with its example."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from berth.accelerate.session import load_accelerated
from berth.cpu import count_gpus
from berth.errors import BerthError, LoadError, RequestError
from berth.loaders.ensemble import ENSEMBLE, load_ensemble
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import Manifest
from berth.models.model import Loaded, Model, PredictFunction
from berth.models.signing import read_public_keys
from berth.models.store import Entry, verify_version
from berth.telemetry.logs import log
from berth.tensors.arrays import Array, Tensors, TensorSpec, decode_array
from berth.tensors.differences import largest_difference
from berth.tensors.schema import blank_inputs, check_tensors, decode_tensors, required

_EXAMPLE_TOLERANCE = 1e-6


def installed_version(library: str) -> str | None:
    """The version of a library here, or of Python itself; None where it is not installed."""
    if library == "python":
        import platform

        return platform.python_version()
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # xgboost may have come as xgboost-cpu
        others = metadata.packages_distributions().get(library)
        return metadata.version(others[0]) if others else None


def compare_versions(built_with: Mapping[str, str]) -> list[str]:
    """One sentence for each library whose installed version is not the one the model was built with."""
    pairs = {library: (wanted, installed_version(library)) for library, wanted in built_with.items()}
    return [
        f"built with {library} {wanted}, but {found or 'none'} is installed"
        for library, (wanted, found) in pairs.items()
        if wanted != found
    ]


def check_versions(key: str, built_with: Mapping[str, str], policy: str) -> None:
    """Log what differs; under the policy `strict`, raise LoadError instead."""
    if not (differences := compare_versions(built_with)):
        return
    if policy == "strict":
        raise LoadError(f"BERTH_VERSION_POLICY=strict refuses {key}: {'; '.join(differences)}")
    log(f"{key}: {'; '.join(differences)}", level=logging.WARNING, model=key)


def differs(found: Array, wanted: Array, tolerance: float) -> bool:
    """Whether two outputs disagree: numbers by more than `tolerance`, anything else at all."""
    if not found.size and not wanted.size:  # no boxes: JSON has [] for the shape [0, 4]
        return False
    if found.dtype.kind == "f":
        found = np.where(np.isfinite(found), found, np.nan)  # JSON has null alone for NaN and both infinities
    return largest_difference(wanted, found) > tolerance


def _ask(model: Model, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
    try:
        return model.predict(tensors, outputs)
    except Exception as error:  # whatever a model raises, here it means that it must not serve
        raise LoadError(f"the model fails on its own example: {type(error).__name__}: {error}") from error


def check_example(model: Model, example: Mapping[str, Any]) -> None:
    """That the model reproduces its own example within the tolerance. Raises LoadError showing both outputs."""
    specs = {spec.name: spec for spec in model.outputs}
    names = list(example["outputs"])
    if unknown := [name for name in names if name not in specs]:
        raise LoadError(f"the example has an output {unknown[0]!r}, but the model gives {', '.join(specs)}")
    try:
        tensors = check_tensors(decode_tensors(example["inputs"], model.inputs), model.inputs, 1 << 30, model.batchable)
        wanted_by_name = {
            name: decode_array(example["outputs"][name], specs[name].datatype, f"output {name!r}") for name in names
        }
    except RequestError as error:
        raise LoadError(f"the example does not fit the model: {error.message}") from error
    found = _ask(model, tensors, names)
    for name, wanted in wanted_by_name.items():
        if differs(found[name], wanted, float(example.get("tolerance", _EXAMPLE_TOLERANCE))):
            raise LoadError(
                f"the example's {name} should be {str(wanted.tolist())[:200]}, but the model returns "
                f"{str(found[name].tolist())[:200]}"
            )


def check_answers(entry: Entry, manifest: Manifest, loaded: Loaded) -> None:
    """That a version, as its manifest describes it, reproduces its example: what every start will check.

    Raises LoadError.
    """
    check_example(_model_of(entry, manifest, loaded, accelerated=False), manifest.example or {})


def _model_of(entry: Entry, manifest: Manifest, loaded: Loaded, accelerated: bool) -> Model:
    return Model(
        name=entry.name,
        version=entry.version,
        format=manifest.format,
        sha256=manifest.sha256,
        inputs=manifest.inputs or loaded.inputs,
        outputs=manifest.outputs or loaded.outputs,
        predict=loaded.predict,
        accelerated=accelerated,
        metadata=manifest.metadata,
        example=manifest.example,
        batchable=manifest.batchable,
    )


def _warm_up(model: Model) -> None:
    """Run the model before the first request does; its own example where it has one, else blank rows."""
    if model.example is not None:
        check_example(model, model.example)
        return
    try:
        model.predict(blank_inputs(model.inputs, 1), [spec.name for spec in required(model.outputs)])
    except Exception as error:  # the model may well refuse blank rows; only an example is proof
        log(f"{model.name}@{model.version}: warm-up on blank rows failed: {error!r}", level=logging.DEBUG)


def load_verified(entry: Entry, manifest: Manifest, options: LoadOptions) -> Loaded:
    """The loaded artifact, with everything unexpected turned into a LoadError."""
    try:
        return load(entry.folder, manifest, options)
    except BerthError:
        raise
    except Exception as error:  # a file of a few million bytes can break its library in any way
        raise LoadError(f"{manifest.format} could not be loaded: {type(error).__name__}: {error}") from error


def _why_plain(manifest: Manifest, options: LoadOptions) -> str | None:
    """Why the artifact itself must be loaded; None where its accelerated model can serve."""
    told = manifest.accelerated or {}
    if "file" not in told:
        return str(told.get("reason", f"a version of the format {manifest.format} is never accelerated"))
    if options.accelerate == "off":
        return "BERTH_ACCELERATE=off"
    if manifest.format == "torchscript" and count_gpus():
        return "there is a GPU, on which torch itself predicts"
    if options.pickle == "off" and manifest.format not in ("skops", "torchscript"):
        return "BERTH_PICKLE=off refuses the format, whatever is in front of it"
    if installed_version("onnxruntime") is None:
        return 'onnxruntime is not installed; pip install "berth[onnx]"'
    return None


def _with_native(fast: PredictFunction, outputs: Sequence[TensorSpec], load: Callable[[], Loaded]) -> PredictFunction:
    """The accelerated model; for optional outputs the artifact itself, loaded when a request first names one."""
    optional = frozenset(spec.name for spec in outputs if spec.optional)
    if not optional:
        return fast
    loading = threading.Lock()
    loaded: list[Loaded] = []

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        if not optional.intersection(wanted):
            return fast(tensors, wanted)
        with loading:
            if not loaded:
                loaded.append(load())
        return loaded[0].predict(tensors, wanted)

    return predict


def _load_members(entry: Entry, manifest: Manifest, options: LoadOptions, version_policy: str) -> tuple[Loaded, bool]:
    """An ensemble, its members accelerated where they can be."""
    fast: list[bool] = []

    def open_member(member: Entry, described: Manifest) -> Loaded:
        loaded, accelerated = _load(member, described, options, version_policy)
        fast.append(accelerated)
        return loaded

    return load_ensemble(entry.folder, manifest, options, open_member), all(fast)


def _load(entry: Entry, manifest: Manifest, options: LoadOptions, version_policy: str) -> tuple[Loaded, bool]:
    """What predicts for a version, and whether that is its accelerated model."""
    if manifest.format == ENSEMBLE:
        return _load_members(entry, manifest, options, version_policy)
    if (why := _why_plain(manifest, options)) is None and manifest.accelerated is not None:
        path = entry.folder / manifest.accelerated["file"]
        loaded = load_accelerated(path, manifest.inputs, required(manifest.outputs), options.cpu_threads)
        check_versions(entry.key, loaded.built_with, version_policy)
        later = partial(load_verified, entry, manifest, options)
        return replace(loaded, predict=_with_native(loaded.predict, manifest.outputs, later)), True
    if options.accelerate == "require":
        raise LoadError(f"BERTH_ACCELERATE=require, but {entry.key} cannot be accelerated: {why}")
    if manifest.accelerated is not None:
        log(f"{entry.key} is not accelerated: {why}", model=entry.name, version=entry.version)
    return load_verified(entry, manifest, options), False


def open_version(
    entry: Entry, options: LoadOptions, version_policy: str, on_loaded: Callable[[], None] = lambda: None
) -> Model:
    """A model ready to predict; `on_loaded` is called before its first prediction. Raises an OperatorError."""
    began = time.monotonic()
    manifest = verify_version(entry, read_public_keys(options.signature_keys))
    check_versions(entry.key, manifest.built_with, version_policy)
    loaded, accelerated = _load(entry, manifest, options, version_policy)
    model = _model_of(entry, manifest, loaded, accelerated)
    if not model.inputs or not model.outputs:
        raise LoadError(f"{entry.key}: neither model.json nor the artifact names the inputs and outputs")
    on_loaded()
    _warm_up(model)
    return replace(model, load_seconds=time.monotonic() - began)
