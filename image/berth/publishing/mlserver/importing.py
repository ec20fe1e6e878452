"""Adds MLServer's models to a store, each as a version like any other: copied, tried in a child, verified."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from berth.errors import LoadError
from berth.loaders.formats import LoadOptions, find_model_file
from berth.models.store import Entry
from berth.publishing.adding import AddRequest, add_version
from berth.publishing.mlserver.served_models import ServedModel
from berth.tensors.arrays import TensorSpec

# Of an artifact whose inputs must be declared (publishing/adding.py).
_NO_INPUTS = "does not name its inputs"
# The outputs that MLServer's methods have here.
_OUTPUTS = {"predict": "prediction", "predict_proba": "probabilities", "transform": "transformed"}


def find_file(model: ServedModel) -> Path:
    """The artifact: what `uri` names, or in a folder the file that the runtime looks for. Raises LoadError."""
    if model.path.is_file() or model.runtime.format == "mlflow":
        return model.path
    for name in model.runtime.wellknown:
        if (model.path / name).is_file():
            return model.path / name
    return find_model_file(model.path)


def _place(source: Path, target: Path) -> None:
    """The file under another name: a second name for it, else a copy where the disk is another one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def _as_booster(file: Path) -> Iterator[Path]:
    """A LightGBM file as an MLflow folder that serves a Booster.

    MLServer responds with what `Booster.predict` returns, probabilities for a classifier; a bare LightGBM file is
    served with labels. The MLmodel of a Booster asks for the former.
    """
    with tempfile.TemporaryDirectory(prefix="berth-import-") as folder:
        _place(file.resolve(), Path(folder, file.name))
        flavor = {"data": file.name, "model_class": "lightgbm.basic.Booster"}
        # YAML reads JSON.
        Path(folder, "MLmodel").write_text(json.dumps({"flavors": {"lightgbm": flavor}}, indent=1) + "\n", "utf-8")
        yield Path(folder)


def _staged(model: ServedModel) -> AbstractContextManager[Path]:
    """The file or folder to add."""
    file = find_file(model)
    return _as_booster(file) if model.runtime.format == "lightgbm" else nullcontext(file)


def _describe_tuning(model: ServedModel) -> Iterator[str]:
    tuning = model.tuning
    if size := tuning.get("max_batch_size"):
        wait_ms = float(tuning.get("max_batch_time") or 0) * 1000
        yield f"max_batch_size: BERTH_BATCH_MAX_ROWS={size} BERTH_BATCH_WAIT_MS={wait_ms:g}; without, it is measured"
    if tuning.get("cache_enabled"):
        yield "cache_enabled: set BERTH_CACHE_BYTES, the memory of the cache per worker"


def describe_differences(model: ServedModel) -> list[str]:
    """One line for each setting of the model that is not taken over as it is."""
    lines = []
    if (output := _OUTPUTS.get(model.predict_fn)) and model.predict_fn != "predict":
        lines.append(f'predict_fn {model.predict_fn}: V2 requests name the output: "outputs": [{{"name": "{output}"}}]')
    elif model.predict_fn and not output:
        lines.append(f"predict_fn {model.predict_fn[:60]!r} has no equivalent")
    return [*lines, *_describe_tuning(model)]


def _add(
    store: Path, source: Path, request: AddRequest, declared: tuple[TensorSpec, ...], options: LoadOptions
) -> Entry:
    """Add with the inputs that the artifact describes, else with those that are declared for it."""
    try:
        return add_version(store, source, request, options)
    except LoadError as error:
        if _NO_INPUTS not in error.message:
            raise
        if not declared:
            problem = "the artifact does not describe its inputs; declare inputs in model-settings.json"
            raise LoadError(problem) from error
    return add_version(store, source, replace(request, inputs=declared), options)


def import_model(store: Path, model: ServedModel, options: LoadOptions) -> Entry:
    """Add one model. Raises LoadError, StoreError (already there), UnsafeArtifact."""
    format_ = {"lightgbm": "mlflow"}.get(model.runtime.format, model.runtime.format)
    metadata = dict(model.metadata)
    if model.runtime.format == "lightgbm":
        metadata["deterministic"] = True
    request = AddRequest(model.name, model.version, format_, metadata=metadata)
    with _staged(model) as source:
        if format_ == "mlflow" and not (source / "MLmodel").is_file():
            raise LoadError(f"{str(source)!r} holds no MLmodel; set uri to the folder that mlflow saved")
        return _add(store, source, request, model.inputs, options)
