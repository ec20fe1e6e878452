"""What a `model-settings.json` of MLServer says: the model's name and version, its artifact, and who serves it.

https://mlserver.readthedocs.io/en/stable/reference/model-settings.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from berth.errors import LoadError, shown
from berth.models.store import WORD
from berth.tensors.arrays import DATATYPES, TensorSpec

MODEL_SETTINGS, SERVER_SETTINGS = "model-settings.json", "settings.json"
# A settings file is small; a greater one is something else of that name.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Runtime:
    """One of MLServer's runtimes that has an equivalent: the format, and the files it looks for in a folder."""

    format: str
    wellknown: tuple[str, ...] = ()


RUNTIMES: dict[str, Runtime] = {
    "mlserver_sklearn": Runtime("", ("model.joblib", "model.pickle", "model.pkl")),
    "mlserver_xgboost": Runtime("xgboost", ("model.bst", "model.json", "model.ubj")),
    "mlserver_lightgbm": Runtime("lightgbm", ("model.bst",)),
    "mlserver_mlflow": Runtime("mlflow"),
}
# MLServer has no runtime of its own for ONNX; those that users have share the word.
_ONNX = Runtime("onnx", ("model.onnx",))
# What to do about the others.
_NO_EQUIVALENT = {
    "mlserver_huggingface": "a HuggingFace pipeline; export its model with `optimum-cli export onnx` and add that file",
    "mlserver_catboost": 'a CatBoost model; save it with model.save_model("m.onnx", format="onnx") and add that file',
    "mlserver_alibi_detect": "a drift detector; GET /drift compares requests with the sample of a model",
    "mlserver_alibi_explain": "an explainer, which is not served",
    "mlserver_mllib": "a Spark model; export it as ONNX and add that file",
}
_CUSTOM = "a custom runtime; put its code into a folder with model.py (docs/formats.md, the format python)"


@dataclass(frozen=True)
class ServedModel:
    """A model of MLServer. `path` is its artifact, or the folder that holds it; `predict_fn` is empty if not set."""

    name: str
    version: str
    path: Path
    runtime: Runtime
    predict_fn: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    # As declared, for artifacts that do not describe their inputs.
    inputs: tuple[TensorSpec, ...] = ()
    # Of the model's own batching and cache, as MLServer writes them.
    tuning: Mapping[str, Any] = field(default_factory=dict)


def read_settings_file(path: Path) -> dict[str, Any]:
    """The JSON object in a settings file. Raises LoadError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise LoadError(f"{path.name} is larger than {_MOST_BYTES} bytes, so it is not MLServer's")
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise LoadError(f"{path} must hold an object, got {shown(document)}")
    return document


def find_settings(folder: Path) -> list[Path]:
    """Every `model-settings.json` below a folder, in order. Raises LoadError where there is none."""
    found = sorted(folder.rglob(MODEL_SETTINGS)) if folder.is_dir() else []
    if not found:
        raise LoadError(f"{str(folder)!r} holds no {MODEL_SETTINGS}; name a folder that `mlserver start` serves")
    return found


def _word(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise LoadError(f"{key} must be a string, got {shown(value)}")
    return str(value)


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise LoadError(f"{key} must be an object, got {shown(value)}")
    return value


def _find_runtime(implementation: str, path: Path) -> Runtime:
    package = implementation.partition(".")[0].replace("-", "_")
    if (known := RUNTIMES.get(package)) is not None:
        return known
    if "onnx" in implementation.lower() or path.suffix == ".onnx":
        return _ONNX
    raise LoadError(f"no equivalent of {implementation[:80]!r}: {_NO_EQUIVALENT.get(package, _CUSTOM)}")


def _find_path(folder: Path, uri: str) -> Path:
    """Where a `uri` leads: relative to the settings' own folder, as MLServer reads it."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise LoadError(f"the uri {uri[:120]!r} is remote; fetch it, and set uri to the local path")
    path = folder / (parts.path if parts.scheme else uri)
    if not path.exists():
        raise LoadError(f"the uri {uri[:120]!r} leads to {str(path)!r}, which does not exist")
    return path


def _parse_inputs(declared: Any) -> tuple[TensorSpec, ...]:
    """The declared inputs with a free number of rows; none where one of them is no tensor Berth knows.

    MLServer never checks a request against them, so numbers of any width are accepted as FP64.
    """
    specs = []
    for tensor in declared if isinstance(declared, list) else ():
        if not isinstance(tensor, dict):
            return ()
        name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
        if not isinstance(name, str) or datatype not in DATATYPES or not isinstance(shape, list) or not shape:
            return ()
        if not all(type(size) is int and size >= -1 for size in shape):
            return ()
        # [1, 4] is an example of one row; [4] alone is a row as well.
        rest = shape[1:] if len(shape) > 1 else shape if shape[0] > 1 else ()
        specs.append(TensorSpec(name, datatype if datatype == "BYTES" else "FP64", (-1, *rest)))
    return tuple(specs)


def _make_metadata(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the version notes: MLServer's words on the model."""
    kept = {key: document[key] for key in ("platform", "versions", "inputs", "outputs") if document.get(key)}
    return {"mlserver": {"implementation": document["implementation"], **kept}}


def parse_model(path: Path) -> ServedModel:
    """The model that a `model-settings.json` describes. Raises LoadError, also for what has no equivalent."""
    document = read_settings_file(path)
    parameters = _mapping(document, "parameters")
    implementation = _word(document, "implementation")
    if not implementation:
        raise LoadError("implementation is missing; it names the runtime, such as mlserver_sklearn.SKLearnModel")
    artifact = _find_path(path.parent, _word(parameters, "uri") or ".")
    # Without a name MLServer takes the folder's.
    name = _word(document, "name") or path.parent.resolve().name
    version = _word(parameters, "version")
    for kind, word in (("name", name), ("version", version)):
        if word and not WORD.fullmatch(word):
            raise LoadError(f"{kind} {word[:60]!r}: use letters, digits, dot, dash and underscore")
    return ServedModel(
        name,
        version,
        artifact,
        _find_runtime(implementation, artifact),
        _word(_mapping(parameters, "extra"), "predict_fn"),
        _make_metadata(document),
        _parse_inputs(document.get("inputs")),
        {key: document[key] for key in ("max_batch_size", "max_batch_time", "cache_enabled") if document.get(key)},
    )
