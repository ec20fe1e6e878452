"""How a format becomes a model: one table; adding a format is a function and a line.

Every loader has the signature of `Loader` below, imports its library inside itself, and reads only files
whose digests have been checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from berth.errors import LoadError
from berth.loaders.endings import recognise_content
from berth.models.manifest import Manifest
from berth.models.model import Loaded


@dataclass(frozen=True)
class LoadOptions:
    """What a loader may do: the settings that concern loading, and the threads it may use."""

    pickle: str = "restricted"
    pickle_allow: tuple[tuple[str, str], ...] = ()
    allow_code: bool = False
    torch_factories: tuple[str, ...] = ()
    cpu_threads: int = 1
    accelerate: str = "off"
    # Limits of the child process in which a file is tried first; None: by its format, its size and the machine.
    load_seconds: float | None = None
    load_memory_bytes: int | None = None
    # Files of public keys, one of which must have signed a version; none: unsigned versions load as well.
    signature_keys: tuple[str, ...] = ()


# (folder, manifest, options) -> Loaded. Raises UnsafeArtifact, LoadError; nothing else on purpose.
Loader: TypeAlias = Callable[[Path, Manifest, LoadOptions], Loaded]


@dataclass(frozen=True)
class Format:
    """One line of the table: where the loader is, which file names mean it, what must be installed."""

    loader: str
    suffixes: tuple[str, ...] = ()
    extra: str | None = None


FORMATS: dict[str, Format] = {
    "joblib": Format("berth.loaders.estimator:load_estimator", (".joblib",)),
    "pickle": Format("berth.loaders.estimator:load_estimator", (".pkl", ".pickle")),
    "skops": Format("berth.loaders.estimator:load_estimator", (".skops",), "skops"),
    "onnx": Format("berth.loaders.onnx:load_onnx", (".onnx",), "onnx"),
    "torchscript": Format("berth.loaders.torch:load_torchscript", (".pt", ".ts"), "torch"),
    "torch-export": Format("berth.loaders.torch:load_export", (".pt2",), "torch"),
    "safetensors": Format("berth.loaders.torch:load_safetensors", (".safetensors",), "torch"),
    "python": Format("berth.loaders.code:load_python"),
    "xgboost": Format("berth.loaders.boosters:load_xgboost", (".json", ".ubj"), "xgboost"),
    "lightgbm": Format("berth.loaders.boosters:load_lightgbm", (".txt",), "lightgbm"),
    "catboost": Format("berth.loaders.catboost_file:load_catboost", (".cbm",), "catboost"),
    "mlflow": Format("berth.loaders.mlflow:load_mlflow", (), "mlflow"),
    "ensemble": Format("berth.loaders.ensemble:load_ensemble"),
}

# Endings of much that is no model.
_TEXTS = frozenset({".json", ".txt", ".ts"})


def detect_format(path: Path) -> str:
    """The format that a file's name, else its content, or a folder's content means. Raises LoadError."""
    if path.is_dir():
        for marker, name in (("MLmodel", "mlflow"), ("model.py", "python")):
            if (path / marker).is_file():
                return name
        raise LoadError(f"{path.name} is a folder without MLmodel or model.py; name the format with --format")
    for name, format_ in FORMATS.items():
        if path.name.lower().endswith(format_.suffixes or ("\0",)):
            return name
    if found := recognise_content(path):
        return found
    known = ", ".join(suffix for format_ in FORMATS.values() for suffix in format_.suffixes)
    raise LoadError(f"{path.name} has none of the endings {known}; name the format with --format")


def _is_model_file(path: Path) -> bool:
    """Whether a file beside others is a model; text and JSON are so by their content alone."""
    if path.name.startswith(".") or not path.is_file():
        return False
    try:
        return bool(recognise_content(path) if path.suffix.lower() in _TEXTS else detect_format(path))
    except LoadError:
        return False


def find_model_file(folder: Path) -> Path:
    """The one model file in a folder; of several, the one called model. Raises LoadError."""
    found = sorted(path for path in folder.iterdir() if _is_model_file(path))
    chosen = found if len(found) == 1 else [path for path in found if path.name.partition(".")[0] == "model"]
    if len(chosen) == 1:
        return chosen[0]
    if found:
        names = ", ".join(path.name for path in found[:10])
        raise LoadError(f"{str(folder)!r} holds several model files ({names}); name one of them")
    raise LoadError(f"{str(folder)!r} holds no model: neither NAME/VERSION/model.json nor a model file")


def load(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """The model in `directory`, whose digests the caller has checked. Raises UnsafeArtifact, LoadError."""
    format_ = FORMATS[manifest.format]
    module, function = format_.loader.split(":")
    loader: Loader = getattr(import_module(module), function)
    try:
        return loader(directory, manifest, options)
    except ModuleNotFoundError as error:
        hint = f'pip install "berth[{format_.extra}]"' if format_.extra else f"install {error.name}"
        raise LoadError(f"the format {manifest.format} needs {error.name}, which is not installed: {hint}") from error
