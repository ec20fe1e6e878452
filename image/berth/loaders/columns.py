"""What a fitted estimator knows of each column that it accepts: its name, datatype and a value to try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from berth.loaders.categories import Values, fitted_categories
from berth.loaders.fitted import walk_fitted
from berth.tensors.arrays import Array, datatype_of

# Where meta-estimators keep fitted ones that see the same columns as they do.
_SAME_COLUMNS = (
    "best_estimator_",
    "estimator_",
    "estimators_",
    "estimator",
    "calibrated_classifiers_",
    "regressor_",
    "_preprocessor",
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `keeps_none` where None was a category of its own in training, not a missing value.

    `unsure` where a part from elsewhere sees it, so that its datatype is a guess; `unused` where no part does.
    `categories` are the values of a column that must arrive as pandas' categories.
    """

    name: str
    datatype: str = "FP64"
    example: Any = 0.0
    keeps_none: bool = False
    unsure: bool = False
    unused: bool = False
    categories: Values = None


@dataclass(frozen=True, slots=True)
class Entrance:
    """A part that sees columns as they come in: these positions, or all of them where it is the text model."""

    part: Any
    positions: tuple[int, ...] | None


def is_text_part(part: Any) -> bool:
    """Whether `part` accepts a list of strings, not a table."""
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

    return isinstance(part, (CountVectorizer, HashingVectorizer))


def _keeps_columns(part: Any) -> bool:
    """Whether the next step of a pipeline sees the same columns in the same places."""
    from sklearn.impute import SimpleImputer

    return part in ("passthrough", None) or (isinstance(part, SimpleImputer) and not part.add_indicator)


def _members_of(estimator: Any) -> Iterator[Any]:
    fitted = vars(estimator) if hasattr(estimator, "__dict__") else {}
    for name in _SAME_COLUMNS:
        value = fitted.get(name)
        if isinstance(value, np.ndarray):
            yield from value.flat
        elif isinstance(value, (list, tuple)):
            yield from value
        elif value is not None:
            yield value


def walk_entrances(estimator: Any, positions: tuple[int, ...] | None) -> Iterator[Entrance]:
    """Every part that sees columns as they come in."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            yield from walk_entrances(step, positions)
            if not _keeps_columns(step):
                return
    elif isinstance(estimator, ColumnTransformer):
        places = getattr(estimator, "_transformer_to_input_indices", {})
        for name, part, _ in getattr(estimator, "transformers_", ()):
            taken = places.get(name, ())
            yield from walk_entrances(part, tuple(positions[at] for at in taken) if positions else tuple(taken))
    elif isinstance(estimator, FeatureUnion):
        for _, part in estimator.transformer_list:
            yield from walk_entrances(part, positions)
    else:
        yield Entrance(estimator, positions)
        for member in _members_of(estimator):
            yield from walk_entrances(member, positions)


def takes_text(estimator: Any) -> bool:
    """Whether the whole input is one string a row."""
    return any(seen.positions is None and is_text_part(seen.part) for seen in walk_entrances(estimator, None))


def selects_by_name(estimator: Any) -> bool:
    """Whether some columns are chosen by what they are called or by a function of the frame."""
    from sklearn.compose import ColumnTransformer

    def by_name(columns: Any) -> bool:
        some = columns if isinstance(columns, (str, list, tuple)) else np.atleast_1d(np.asarray(columns)).tolist()
        return callable(columns) or any(isinstance(one, str) for one in some)

    return any(
        isinstance(part, ColumnTransformer) and any(by_name(columns) for _, _, columns in part.transformers)
        for part in walk_fitted(estimator)
    )


def natural_dtype(values: Array) -> np.dtype[Any]:
    """The dtype of `values` once an object array is looked into: strings stay objects."""
    if values.dtype != object:
        return values.dtype
    known = [value for value in values.tolist() if value is not None and value == value]
    found = np.asarray(known).dtype if len({type(value) for value in known}) == 1 else np.dtype(object)
    return found if found.kind in "biuf" else np.dtype(object)


def _from_categories(name: str, categories: Array) -> Column:
    known = [value for value in categories.tolist() if value is not None and value == value]
    datatype = datatype_of(natural_dtype(categories))
    example = known[0] if known else 0.0
    # An INT64 or a BOOL has no place for a missing value.
    if datatype != "BYTES" and len(known) < len(categories):
        datatype = "FP64"
    missing = [value for value in categories.tolist() if value is None or value != value]
    return Column(name, datatype, example, keeps_none=bool(missing) and all(value is None for value in missing))


def _from_pandas(name: str, values: Values) -> Column:
    if values is None:
        return Column(name)
    text = isinstance(values[0], str)
    return Column(name, "BYTES" if text else "FP64", values[0], categories=values)


def _learned(seen: Entrance, names: Sequence[str], count: int) -> Iterator[tuple[int, Column]]:
    """What one part knows of the columns that it sees."""
    from sklearn.impute import SimpleImputer

    positions: Sequence[int] = seen.positions if seen.positions is not None else range(count)
    categories = getattr(seen.part, "categories_", None)
    if (known := fitted_categories(seen.part)) is not None and len(known) == len(positions):
        for at, one in zip(positions, known, strict=True):
            yield at, _from_pandas(names[at], one)
    elif is_text_part(seen.part):
        for at in positions:
            yield at, Column(names[at], "BYTES", "")
    elif isinstance(categories, list) and len(categories) == len(positions):
        for at, values in zip(positions, categories, strict=True):
            yield at, _from_categories(names[at], np.asarray(values))
    elif isinstance(seen.part, SimpleImputer) and len(seen.part.statistics_) == len(positions):
        for at, value in zip(positions, seen.part.statistics_.tolist(), strict=True):
            if isinstance(value, str):
                yield at, Column(names[at], "BYTES", value, seen.part.missing_values is None)


# They hand their columns on to the estimators in them, and read none themselves.
_DELEGATES = (
    "CalibratedClassifierCV",
    "FixedThresholdClassifier",
    "GridSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "RandomizedSearchCV",
    "TransformedTargetRegressor",
    "TunedThresholdClassifierCV",
    "VotingClassifier",
    "VotingRegressor",
)


def _is_foreign(part: Any) -> bool:
    """Whether what a part accepts is not to be known: somebody else's class, or a function."""
    from sklearn.preprocessing import FunctionTransformer

    elsewhere = hasattr(part, "transform") and not type(part).__module__.startswith("sklearn.")
    return elsewhere or isinstance(part, FunctionTransformer)


def find_readers(estimator: Any, count: int) -> tuple[frozenset[int], frozenset[int]]:
    """The columns that some part reads, and those of them that a part from elsewhere reads."""
    read: set[int] = set()
    foreign: set[int] = set()
    for seen in walk_entrances(estimator, None):
        if type(seen.part).__name__ in _DELEGATES or (isinstance(seen.part, str) and seen.part == "drop"):
            continue
        places = range(count) if seen.positions is None else seen.positions
        if len(read) < count:  # the first tree of a forest reads as much as all of them
            read.update(places)
        if _is_foreign(seen.part):
            foreign.update(places)
    return frozenset(read), frozenset(foreign)


def feature_names(estimator: Any) -> tuple[str, ...] | None:
    """The names of the columns it was fitted with, where they had some."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else tuple(str(name) for name in names)


def find_columns(estimator: Any) -> tuple[Column, ...]:
    """Every column of a fitted estimator, in order; none where it does not say how many it accepts.

    Without names they are called x0, x1, … as scikit-learn does.
    """
    count = getattr(estimator, "n_features_in_", None)
    if count is None:
        return ()
    names = feature_names(estimator) or tuple(f"x{at}" for at in range(count))
    found: dict[int, Column] = {}
    for seen in walk_entrances(estimator, None):
        for at, column in _learned(seen, names, count):
            # Text is never a number; of two parts that say the same, the first is as good as any.
            if at not in found or (column.datatype == "BYTES" and found[at].datatype != "BYTES"):
                found[at] = column
    read, foreign = find_readers(estimator, count)
    columns = [found.get(at, Column(names[at])) for at in range(count)]
    return tuple(
        replace(column, unsure=at in foreign and column.datatype == "FP64", unused=at not in read)
        for at, column in enumerate(columns)
    )
