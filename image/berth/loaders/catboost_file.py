"""CatBoost models in their own file format (.cbm), predicting as their scikit-learn classes do.

CatBoost's C++ parses the file: its flatbuffer is verified there, and the trial in a child process catches what crashes.
Outputs other than labels and probabilities are computed here from the raw values: for some, CatBoost reads outside of
its arrays when the file says one objective and holds the trees of another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from berth.errors import LoadError
from berth.loaders.artifacts import find_artifact
from berth.loaders.boosters import INPUT, label_values, matrix_of
from berth.loaders.formats import LoadOptions
from berth.loaders.recognition import check_is
from berth.models.manifest import Manifest
from berth.models.model import Loaded
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec, datatype_of

# One output: its spec, and the function from the rows (as CatBoost takes them) to it.
_Output: TypeAlias = tuple[TensorSpec, Callable[[Any], Array]]

_EXPONENTIAL = ("Poisson", "Tweedie")
_UNCERTAIN = "RMSEWithUncertainty"


def _read_text(values: Array, name: str) -> list[str]:
    """A column of categories or texts; CatBoost hashes whole numbers as their digits. Raises ValueError for null."""
    column = values.tolist()
    if any(value is None or value != value for value in column):
        raise ValueError(f"column {name!r} has a null, and a category is never missing; send it as it was in training")
    return [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in column]


def _frame_builder(names: Sequence[str], texts: frozenset[int]) -> Callable[[Tensors], Any]:
    """The function from columns by name to CatBoost's rows: floats, and text where a feature is one."""

    def build(tensors: Tensors) -> Any:
        columns = [
            _read_text(tensors[name], name) if at in texts else tensors[name].astype(np.float64).tolist()
            for at, name in enumerate(names)
        ]
        rows = np.empty((len(columns[0]), len(columns)), object)
        for at, column in enumerate(columns):
            rows[:, at] = column
        return rows

    return build


def _describe_inputs(model: Any, name: str) -> tuple[tuple[TensorSpec, ...], Callable[[Tensors], Any]]:
    """The inputs and what makes CatBoost's rows of them. Raises LoadError."""
    if model.get_embedding_feature_indices():
        raise LoadError(f"{name} has embedding features, which no request carries; train it on their numbers instead")
    names = [str(one) for one in model.feature_names_]
    unnamed = names == [str(at) for at in range(len(names))]
    texts = frozenset(model.get_cat_feature_indices()) | frozenset(model.get_text_feature_indices())
    if not texts:
        return (TensorSpec(INPUT, "FP64", (-1, len(names)), None if unnamed else tuple(names)),), matrix_of
    if unnamed:
        names = [f"x{at}" for at in range(len(names))]
    specs = [TensorSpec(one, "BYTES" if at in texts else "FP64", (-1,)) for at, one in enumerate(names)]
    return tuple(specs), _frame_builder(names, texts)


def _objective(model: Any) -> str:
    """The loss that the file says it was trained with; none where it says nothing."""
    try:
        return str(model.get_all_params().get("loss_function", "")).partition(":")[0]
    except Exception:  # CatBoost's own error, of a model that another tool wrote
        return ""


def _predict(model: Any, kind: str, cpu_threads: int) -> Callable[[Any], Array]:
    from catboost import CatBoostError

    def predict(rows: Any) -> Array:
        try:
            return np.asarray(model.predict(rows, prediction_type=kind, thread_count=cpu_threads))
        except CatBoostError as error:
            raise ValueError(str(error).splitlines()[0]) from error

    return predict


def _classifier(model: Any, labels: tuple[Any, ...], width: int, name: str, cpu_threads: int) -> list[_Output]:
    """Labels and their probabilities; of several labels a row, one column for each."""
    several = _objective(model) in ("MultiLogloss", "MultiCrossEntropy")
    if len(labels) != (width if several else max(width, 2)):
        raise LoadError(f"{name} names {len(labels)} classes for {width} outputs; it is damaged, save it again")
    predict, probabilities = _predict(model, "Class", cpu_threads), _predict(model, "Probability", cpu_threads)
    values = label_values(labels)
    kind = "INT64" if several else datatype_of(values.dtype)

    def label(rows: Any) -> Array:
        found = predict(rows)
        return (found if several else found.reshape(len(found))).astype(DATATYPES[kind])

    shape = (-1, width) if several else (-1,)
    known = None if several else labels
    return [
        (TensorSpec("prediction", kind, shape), label),
        (TensorSpec("probabilities", "FP64", (-1, len(labels)), labels=known), probabilities),
    ]


def _regressor(model: Any, raw: Callable[[Any], Array], sample: Array) -> list[_Output]:
    """Values, as CatBoostRegressor gives them: after a logarithm was fitted, its inverse."""
    objective = _objective(model)

    def value(rows: Any) -> Array:
        found = raw(rows)
        if objective in _EXPONENTIAL:
            return np.exp(found)
        if objective == _UNCERTAIN and found.ndim == 2:  # the mean, and the variance of a logarithm of a deviation
            return np.column_stack((found[:, 0], np.exp(2 * found[:, 1])))
        return found

    return [(TensorSpec("prediction", "FP64", (-1, *sample.shape[1:])), value)]


def load_catboost(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """The version's .cbm model. Raises LoadError for other files and for embedding features."""
    import catboost

    path = find_artifact(directory, manifest, (".cbm",))
    check_is(path, "catboost")
    try:
        model = catboost.CatBoost().load_model(str(path), format="cbm")
    except catboost.CatBoostError as error:
        raise LoadError(f"{path.name} is damaged or cut short; save it again with save_model ({error})") from error
    inputs, rows_of = _describe_inputs(model, path.name)
    raw = _predict(model, "RawFormulaVal", options.cpu_threads)
    blank = {spec.name: np.zeros((2, *spec.shape[1:]), DATATYPES[spec.datatype]) for spec in inputs}
    sample = raw(rows_of(blank))
    labels = tuple(np.asarray(model.classes_).tolist())
    width = sample.shape[1] if sample.ndim == 2 else 1
    outputs = (
        _classifier(model, labels, width, path.name, options.cpu_threads) if labels else _regressor(model, raw, sample)
    )
    answers = {spec.name: answer for spec, answer in outputs}

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        rows = rows_of(tensors)
        return {name: answers[name](rows) for name in wanted}

    specs = tuple(spec for spec, _ in outputs)
    # A category may be a whole number as well as text: the file has their hashes alone.
    either = tuple(spec.name for spec in inputs if spec.datatype == "BYTES")
    return Loaded(predict, inputs, specs, {"catboost": catboost.__version__}, guessed=either)
