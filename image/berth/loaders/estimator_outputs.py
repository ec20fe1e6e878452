"""What a fitted estimator returns: its outputs, and the function that gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from berth.errors import LoadError
from berth.loaders.columns import natural_dtype
from berth.loaders.forests import direct_methods
from berth.tensors.arrays import DATATYPES, Array, TensorSpec, datatype_of

# (the table that the estimator accepts, wanted outputs) -> those outputs
Answerer: TypeAlias = Callable[[Any, Sequence[str]], dict[str, Array]]

# scikit-learn's classes whose predict is classes_.take(argmax(predict_proba)) and nothing else.
_ARGMAX = frozenset(
    {
        "BaggingClassifier",
        "CalibratedClassifierCV",
        "DecisionTreeClassifier",
        "ExtraTreeClassifier",
        "ExtraTreesClassifier",
        "RandomForestClassifier",
    }
)


@dataclass(frozen=True, slots=True)
class Output:
    """One output and the estimator's method that gives it; `target` where the method gives a list, one for each."""

    spec: TensorSpec
    method: str
    target: int | None = None


def _dense(answer: Any) -> Array:
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def _datatype(dtype: np.dtype[Any]) -> str:
    """One width for each kind: int32 and float32 lose nothing."""
    if dtype.kind == "f":
        return "FP64"
    return "INT64" if dtype.kind in "iu" and np.can_cast(dtype, np.int64) else datatype_of(dtype)


def _several(classes: Any) -> bool:
    """Whether these are lists of classes, one for each target."""
    return isinstance(classes, list) and bool(classes) and np.ndim(classes[0]) == 1


def _prediction_datatype(estimator: Any, probed: Array | None) -> str:
    """As probed, if that settles it: an object array of one row may hold anything."""
    from sklearn.base import is_regressor

    if probed is not None and probed.dtype != object:
        return _datatype(probed.dtype)
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        each = [np.asarray(one) for one in (classes if _several(classes) else [classes])]
        return _datatype(natural_dtype(np.concatenate(each)))
    if probed is not None:
        return _datatype(natural_dtype(probed))
    return "FP64" if is_regressor(estimator) else "INT64"


def _ask(estimator: Any, method: str, row: Any | None) -> Any:
    """What `method` says of one row; None where it refuses it or there is none."""
    if row is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return getattr(estimator, method)(row)
    except Exception:  # a class from elsewhere may raise anything; that it predicts some row is proven when it is added
        return None


def _describe_prediction(estimator: Any, row: Any | None) -> Output:
    answer = _ask(estimator, "predict", row)
    probed = None if answer is None else _dense(answer)
    targets = getattr(estimator, "n_outputs_", 1)
    width = probed.shape[1:] if probed is not None else ((targets,) if targets > 1 else ())
    spec = TensorSpec("prediction", _prediction_datatype(estimator, probed), (-1, *width))
    return Output(spec, "predict")


def _probabilities(name: str, width: int, classes: Any, target: int | None = None) -> Output:
    labels = tuple(range(width)) if classes is None else tuple(np.asarray(classes).tolist())
    known = labels if len(labels) == width else None
    return Output(TensorSpec(name, "FP64", (-1, width), labels=known), "predict_proba", target)


def _describe_probabilities(estimator: Any, row: Any | None) -> Iterator[Output]:
    classes = getattr(estimator, "classes_", None)
    answer = _ask(estimator, "predict_proba", row)
    if isinstance(answer, list):
        for target, one in enumerate(answer):
            labels = classes[target] if classes is not None and _several(classes) else None
            yield _probabilities(f"probabilities_{target}", one.shape[1], labels, target)
    elif answer is not None:
        yield _probabilities("probabilities", _dense(answer).shape[1], None if _several(classes) else classes)
    elif classes is not None and not _several(classes) and _ask(estimator, "predict", row) is None:
        yield _probabilities("probabilities", len(classes), classes)


# Methods that say more than `predict`, where there are no probabilities to do so; computed when they are requested.
_MORE = ("decision_function", "score_samples", "transform")


def _describe_more(estimator: Any, row: Any | None) -> Iterator[Output]:
    for method in _MORE:
        if not hasattr(estimator, method) or (answer := _ask(estimator, method, row)) is None:
            continue
        values = _dense(answer)
        if values.dtype.kind in "fiu" and values.ndim in (1, 2):
            yield Output(TensorSpec(method, "FP64", (-1, *values.shape[1:]), optional=True), method)


def describe_outputs(estimator: Any, row: Any | None) -> tuple[Output, ...]:
    """What a fitted estimator returns; one row that it accepts, if known, is tried on it. Raises LoadError."""
    if hasattr(estimator, "predict"):
        found = [_describe_prediction(estimator, row)]
        if hasattr(estimator, "predict_proba"):
            found += _describe_probabilities(estimator, row)
        else:
            found += _describe_more(estimator, row)
        return tuple(found)
    if not hasattr(estimator, "transform"):
        raise LoadError(f"{type(estimator).__name__} has neither predict nor transform, so it cannot be served")
    answer = _ask(estimator, "transform", row)
    width = (-1,) if answer is None else _dense(answer).shape[1:]
    datatype = "FP64" if answer is None else _datatype(natural_dtype(_dense(answer)))
    return (Output(TensorSpec("transformed", datatype, (-1, *width)), "transform"),)


def _argmax_classes(estimator: Any) -> Array | None:
    """The classes, where the prediction is known to be that of the highest probability."""
    from sklearn.model_selection._search import BaseSearchCV
    from sklearn.pipeline import Pipeline

    inner = estimator
    while isinstance(inner, (Pipeline, BaseSearchCV)):
        inner = inner.steps[-1][1] if isinstance(inner, Pipeline) else inner.best_estimator_
    known = type(inner).__name__ in _ARGMAX and type(inner).__module__.startswith("sklearn.")
    classes = getattr(inner, "classes_", None)
    return classes if known and isinstance(classes, np.ndarray) else None


def make_answerer(estimator: Any, outputs: Sequence[Output]) -> Answerer:
    """The function that gives wanted outputs; each method is called once at most."""
    by_name = {output.spec.name: output for output in outputs}
    classes, direct = _argmax_classes(estimator), direct_methods(estimator)

    def ask(method: str, table: Any) -> Any:
        return direct[method](table) if method in direct else getattr(estimator, method)(table)

    def answer(table: Any, wanted: Sequence[str]) -> dict[str, Array]:
        methods = dict.fromkeys(by_name[name].method for name in wanted)
        if classes is None or "predict" not in methods:
            said = {method: ask(method, table) for method in methods}
        else:
            probabilities = ask("predict_proba", table)
            chosen = classes.take(np.argmax(probabilities, axis=1), axis=0)
            said = {"predict": chosen, "predict_proba": probabilities}
        return {name: _pick(by_name[name], said[by_name[name].method]) for name in wanted}

    return answer


def _pick(output: Output, said: Any) -> Array:
    one = said if output.target is None else said[output.target]
    return _dense(one).astype(DATATYPES[output.spec.datatype], copy=False)
