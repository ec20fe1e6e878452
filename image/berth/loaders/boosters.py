"""XGBoost and LightGBM models in their own file formats, predicting as their scikit-learn classes do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from berth.errors import LoadError
from berth.loaders.artifacts import find_artifact
from berth.loaders.categories import KnownCategories, lightgbm_categories, xgboost_categories
from berth.loaders.formats import LoadOptions
from berth.loaders.lightgbm_text import check_lightgbm
from berth.loaders.recognition import check_is
from berth.loaders.xgboost_file import check_xgboost
from berth.models.manifest import Manifest
from berth.models.model import Loaded
from berth.tensors.arrays import Array, Tensors, TensorSpec, datatype_of

INPUT = "features"

# Rows to what the library returns, and that to the named outputs.
_Score: TypeAlias = Callable[[Array], Array]
_Decode: TypeAlias = Callable[[Array], dict[str, Array]]
_Signature: TypeAlias = tuple[tuple[TensorSpec, ...], _Decode]

_XGBOOST_PROBABILITIES = frozenset({"multi:softprob", "binary:logistic"})
_XGBOOST_LABELS = frozenset({"multi:softmax", "binary:hinge"})
_LIGHTGBM_PROBABILITIES = frozenset({"binary", "multiclass", "multiclassova"})


def _labels(manifest: Manifest, count: int) -> tuple[Any, ...]:
    """The manifest's labels, as the files keep class numbers only; else these numbers."""
    for spec in manifest.outputs:
        if spec.labels is not None:
            if len(spec.labels) != count:
                raise LoadError(f"the output {spec.name!r} names {len(spec.labels)} labels, the model has {count}")
            return spec.labels
    return tuple(range(count))


def label_values(labels: Sequence[Any]) -> Array:
    """A model's labels as an array; objects where one is a text."""
    text = any(isinstance(label, str) for label in labels)
    return np.array(labels, dtype=object if text else None)


def _classifier(labels: tuple[Any, ...], datatype: str) -> _Signature:
    values = label_values(labels)

    def decode(raw: Array) -> dict[str, Array]:
        probabilities = raw if raw.ndim == 2 else np.column_stack((1.0 - raw, raw))
        return {"prediction": values[probabilities.argmax(axis=1)], "probabilities": probabilities}

    prediction = TensorSpec("prediction", datatype_of(values.dtype), (-1,))
    return (prediction, TensorSpec("probabilities", datatype, (-1, len(labels)), labels=labels)), decode


def _multilabel(count: int, datatype: str) -> _Signature:
    specs = (TensorSpec("prediction", "INT64", (-1, count)), TensorSpec("probabilities", datatype, (-1, count)))
    return specs, lambda raw: {"prediction": (raw > 0.5).astype(np.int64), "probabilities": raw}


def _values(shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Signature:
    spec = TensorSpec("prediction", datatype_of(dtype), (-1, *shape[1:]))
    return (spec,), lambda raw: {"prediction": raw.astype(dtype, copy=False)}


def _features(names: Sequence[str] | None, count: int) -> TensorSpec:
    return TensorSpec(INPUT, "FP64", (-1, count), tuple(names) if names else None)


def matrix_of(tensors: Tensors) -> Array:
    """The rows of a model that accepts one matrix."""
    return np.asarray(tensors[INPUT], np.float64)


def _loaded(
    score: _Score, features: TensorSpec, signature: _Signature, categories: KnownCategories | None, **built_with: str
) -> Loaded:
    outputs, decode = signature
    rows_of = matrix_of if categories is None else categories.encode

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        answers = decode(score(rows_of(tensors)))
        return {name: answers[name] for name in wanted}

    return Loaded(predict, (features,) if categories is None else categories.specs(), outputs, built_with)


def _xgboost_score(booster: Any, linear: bool) -> _Score:
    import xgboost

    best = booster.attr("best_iteration")  # early stopping: the classes predict with the best round, and so do we
    rounds = (0, 0) if best is None or linear else (0, int(best) + 1)
    lock = threading.Lock()  # xgboost's linear booster is not safe to share, its trees are

    def score(rows: Array) -> Array:
        try:
            if linear:
                with lock:
                    answer: Array = booster.predict(xgboost.DMatrix(rows), validate_features=False)
            else:
                answer = booster.inplace_predict(rows, iteration_range=rounds, validate_features=False)
        except xgboost.core.XGBoostError as error:  # infinity, which the linear booster refuses
            raise ValueError(str(error).partition("\nStack trace")[0]) from error
        return answer

    return score


def _xgboost_signature(objective: str, sample: Array, manifest: Manifest) -> _Signature:
    if objective == "binary:logistic" and sample.ndim == 2:
        return _multilabel(sample.shape[1], "FP32")
    if objective in _XGBOOST_PROBABILITIES:
        count = sample.shape[1] if sample.ndim == 2 else 2
        return _classifier(_labels(manifest, count), "FP32")
    return _values(sample.shape, np.dtype(np.int64) if objective in _XGBOOST_LABELS else sample.dtype)


def load_xgboost(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """The version's .json or .ubj model. Raises LoadError for other JSON."""
    import xgboost

    path = find_artifact(directory, manifest, (".json", ".ubj"))
    check_is(path, "xgboost")
    learner = check_xgboost(path)
    try:
        # Of other endings XGBoost would not know which of its two forms to read.
        content = path if path.suffix.lower() in (".json", ".ubj") else bytearray(path.read_bytes())
        booster = xgboost.Booster({"nthread": options.cpu_threads}, model_file=content)
    except xgboost.core.XGBoostError as error:
        raise LoadError(f"{path.name} is not an XGBoost model: {str(error).splitlines()[0]}") from error
    return _serve_xgboost(booster, learner, path.name, manifest)


def serve_booster(booster: Any, name: str, manifest: Manifest, cpu_threads: int) -> Loaded:
    """A pickled Booster of either library, as its own file would be served."""
    if type(booster).__module__.startswith("xgboost."):
        booster.set_param({"nthread": cpu_threads})
        learner = json.loads(bytes(booster.save_raw("json")))["learner"]
        return _serve_xgboost(booster, learner, name, manifest)
    return _serve_lightgbm(booster, booster.model_to_string(), name, manifest, cpu_threads)


def is_booster(thing: Any) -> bool:
    """Whether a pickle held what these libraries train, and not one of their scikit-learn classes."""
    return type(thing).__name__ == "Booster" and type(thing).__module__.split(".")[0] in ("xgboost", "lightgbm")


def _serve_xgboost(booster: Any, learner: Any, name: str, manifest: Manifest) -> Loaded:
    import xgboost

    categories = xgboost_categories(booster.feature_names, learner)
    score = _xgboost_score(booster, learner["gradient_booster"]["name"] == "gblinear")
    features = _features(booster.feature_names, booster.num_features())
    sample = score(np.zeros((2, booster.num_features())))
    signature = _xgboost_signature(learner["objective"]["name"], sample, manifest)
    return _loaded(score, features, signature, categories, xgboost=xgboost.__version__)


def _objective_in(lines: Iterable[str]) -> str:
    """The word after `objective=` in a model's head; none for a custom objective."""
    for line in lines:
        key, _, value = line.strip().partition("=")
        if key == "objective":
            return value.partition(" ")[0]
        if key == "Tree":
            break
    return ""


def _lightgbm_score(booster: Any, cpu_threads: int) -> _Score:
    def score(rows: Array) -> Array:
        answer: Array = booster.predict(rows, num_threads=cpu_threads)
        return answer

    return score


def _lightgbm_columns(booster: Any) -> list[str] | None:
    names: list[str] = booster.feature_name()
    return None if names == [f"Column_{index}" for index in range(len(names))] else names


def load_lightgbm(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """The version's .txt model. Raises LoadError for other text."""
    import lightgbm

    path = find_artifact(directory, manifest, (".txt", ".lgb"))
    check_is(path, "lightgbm")
    check_lightgbm(path)
    try:
        booster = lightgbm.Booster(model_file=path)
    except lightgbm.basic.LightGBMError as error:
        raise LoadError(f"{path.name} is not a LightGBM model: {error}") from error
    text = path.read_text("utf-8", errors="replace")
    return _serve_lightgbm(booster, text, path.name, manifest, options.cpu_threads)


def _serve_lightgbm(booster: Any, text: str, name: str, manifest: Manifest, cpu_threads: int) -> Loaded:
    import lightgbm

    try:
        categories = lightgbm_categories(booster.feature_name(), text)
    except ValueError as error:
        raise LoadError(f"{name} has {error}; save it again with save_model of LightGBM 4") from error
    objective = _objective_in(text.splitlines())
    score = _lightgbm_score(booster, cpu_threads)
    features = _features(_lightgbm_columns(booster), booster.num_feature())
    sample = score(np.zeros((2, booster.num_feature())))
    if objective in _LIGHTGBM_PROBABILITIES:
        signature = _classifier(_labels(manifest, max(2, booster.num_model_per_iteration())), "FP64")
    else:
        signature = _values(sample.shape, sample.dtype)
    return _loaded(score, features, signature, categories, lightgbm=lightgbm.__version__)
