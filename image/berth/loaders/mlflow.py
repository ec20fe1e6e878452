"""MLflow model folders, read without MLflow: MLmodel names the file, the loader of its format does the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import FORMATS, LoadOptions, load
from berth.loaders.torch_archives import is_torchscript
from berth.models.manifest import Manifest
from berth.models.model import Loaded, PredictFunction
from berth.tensors.arrays import Array, Tensors, TensorSpec, datatype_of

_FILE = "MLmodel"

# (folder, what MLmodel says of the flavour) -> (format, file)
_Find = Callable[[Path, Mapping[str, Any]], tuple[str, str]]


def _read_document(directory: Path) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.safe_load((directory / _FILE).read_bytes())
        flavors = document["flavors"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise LoadError(f"{_FILE} does not describe a model: {error}") from error
    if not isinstance(flavors, dict) or not all(isinstance(flavor, dict) for flavor in flavors.values()):
        raise LoadError(f"{_FILE}: flavors is not a mapping of mappings")
    return dict(document)


def _check_inside(name: Any, key: str) -> str:
    if not isinstance(name, str) or not name:
        raise LoadError(f"{_FILE}: {key} is {name!r}; it must name a file")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UnsafeArtifact(f"{_FILE}: {key} is {name!r}, which lies outside of the model's folder")
    return str(path)


def _find_sklearn(directory: Path, flavor: Mapping[str, Any]) -> tuple[str, str]:
    name = _check_inside(flavor.get("pickled_model"), "pickled_model")
    return "skops" if flavor.get("serialization_format") == "skops" else "pickle", name


def _find_pytorch(directory: Path, flavor: Mapping[str, Any]) -> tuple[str, str]:
    folder = _check_inside(flavor.get("model_data", "data"), "model_data")
    exported, saved = f"{folder}/model.pt2", f"{folder}/model.pth"
    if (directory / exported).is_file():
        return "torch-export", exported
    if (directory / saved).is_file() and not is_torchscript(directory / saved):
        raise UnsafeArtifact(
            f"{saved} is a pickle of Python objects, which is not loaded; save the model with "
            'mlflow.pytorch.save_model(…, serialization_format="pt2") or as TorchScript'
        )
    return "torchscript", saved


def _find_by_ending(flavor_format: str) -> _Find:
    """The file named `data`, in the library's own format or, for its scikit-learn classes, as pickle or skops."""

    def find(directory: Path, flavor: Mapping[str, Any]) -> tuple[str, str]:
        name = _check_inside(flavor.get("data"), "data")
        for format_ in ("pickle", "skops"):
            if name.endswith(FORMATS[format_].suffixes):
                return format_, name
        return flavor_format, name

    return find


_FLAVORS: dict[str, _Find] = {
    "sklearn": _find_sklearn,
    "onnx": _find_by_ending("onnx"),
    "pytorch": _find_pytorch,
    "xgboost": _find_by_ending("xgboost"),
    "lightgbm": _find_by_ending("lightgbm"),
}


def _find_artifact(directory: Path, document: Mapping[str, Any]) -> tuple[str, str]:
    flavors = document["flavors"]
    for name, find in _FLAVORS.items():
        if name in flavors:
            return find(directory, flavors[name])
    raise LoadError(f"{_FILE} has the flavours {', '.join(flavors)}; known are {', '.join(_FLAVORS)}")


def _parse_signature(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inputs of the signature as MLflow writes them: JSON within YAML; none without a signature."""
    try:
        return list(json.loads((document.get("signature") or {}).get("inputs") or "[]"))
    except (ValueError, TypeError, AttributeError) as error:
        raise LoadError(f"{_FILE}: the signature cannot be read: {error}") from error


def _column_names(signature: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(str(entry["name"]) for entry in signature if "name" in entry and entry.get("type") != "tensor")


def _tensor_specs(signature: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    """The signature for a file that names no inputs itself. Columns become one FP32 matrix, as in MLflow."""
    if columns := _column_names(signature):
        return (TensorSpec("features", "FP32", (-1, len(columns)), columns),)
    try:
        return tuple(
            TensorSpec(
                entry.get("name") or ("features" if len(signature) == 1 else f"input_{index}"),
                datatype_of(np.dtype(entry["tensor-spec"]["dtype"])),
                (-1, *entry["tensor-spec"]["shape"][1:]),
            )
            for index, entry in enumerate(signature)
        )
    except (KeyError, TypeError) as error:
        raise LoadError(f"{_FILE}: the signature has no tensor that Berth knows: {error!r}") from error


def _with_columns(inputs: tuple[TensorSpec, ...], names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """A matrix fitted without names gets those of the signature."""
    if len(inputs) == 1 and inputs[0].columns is None and inputs[0].shape == (-1, len(names)):
        return (replace(inputs[0], columns=names),)
    return inputs


def _raw(loaded: Loaded, predict: PredictFunction) -> tuple[TensorSpec, Callable[[Tensors], Array]] | None:
    """What a Booster itself returns, from what its scikit-learn class would: one number a row of two classes."""
    spec = next((spec for spec in loaded.outputs if spec.name == "probabilities"), None)
    if spec is None:
        return None
    if spec.shape[1] != 2:
        return replace(spec, labels=None), lambda tensors: predict(tensors, ["probabilities"])["probabilities"]
    single = TensorSpec("prediction", spec.datatype, (-1,))
    return single, lambda tensors: predict(tensors, ["probabilities"])["probabilities"][:, 1]


def _other_method(
    loaded: Loaded, predict: PredictFunction, method: str
) -> tuple[TensorSpec, Callable[[Tensors], Array]] | None:
    """What another method than `predict` returns, by the name of its output."""
    output = {"predict_proba": "probabilities", "predict_log_proba": "probabilities"}.get(method, method)
    spec = next((spec for spec in loaded.outputs if spec.name == output), None)
    if spec is None:
        offered = ", ".join(known.name for known in loaded.outputs)
        raise LoadError(
            f"{_FILE}: predict_fn is {method!r}, but the outputs of this model are {offered}; "
            "save it with another pyfunc_predict_fn"
        )
    change = np.log if method == "predict_log_proba" else np.asarray
    return spec, lambda tensors: change(predict(tensors, [output])[output])


def _answers_as_flavor(loaded: Loaded, flavors: Mapping[str, Any], format_: str, manifest: Manifest) -> Loaded:
    """The model with the prediction that MLflow's own server gives: `predict_fn` and the model's class decide it."""
    method = str(flavors.get("python_function", {}).get("predict_fn", "predict"))
    booster = str(flavors.get(format_, {}).get("model_class", "")).endswith(".Booster")
    predict, found = loaded.predict, None
    if format_ in ("xgboost", "lightgbm") and booster:
        found = _raw(loaded, predict)
    elif "sklearn" in flavors and method != "predict":
        found = _other_method(loaded, predict, method)
    if found is None:
        return loaded
    spec, ask = replace(found[0], name="prediction", optional=False), found[1]
    before = next((known for known in manifest.outputs if known.name == "prediction"), spec)
    if (before.datatype, before.shape) != (spec.datatype, spec.shape):  # added when labels were returned
        return loaded

    def answer(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        others = predict(tensors, [name for name in wanted if name != "prediction"])
        return {name: ask(tensors) if name == "prediction" else others[name] for name in wanted}

    outputs = tuple(spec if known.name == "prediction" else known for known in loaded.outputs)
    return replace(loaded, predict=answer, outputs=outputs, estimator=None)


def load_mlflow(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """The first flavour of the folder that Berth has a loader for. Raises UnsafeArtifact, LoadError."""
    document = _read_document(directory)
    format_, name = _find_artifact(directory, document)
    if name not in manifest.artifacts:
        raise LoadError(f"{_FILE} names {name}, which is not among the version's files")
    signature = _parse_signature(document)
    inputs = manifest.inputs or (_tensor_specs(signature) if format_ == "torchscript" else ())
    loaded = load(
        directory, replace(manifest, format=format_, files={name: manifest.files[name]}, inputs=inputs), options
    )
    loaded = _answers_as_flavor(loaded, document["flavors"], format_, manifest)
    return replace(loaded, inputs=_with_columns(loaded.inputs, _column_names(signature)))
