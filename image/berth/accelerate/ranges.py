"""What a fitted estimator knows of the values it met: the range, the categories and the thresholds of each column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from berth.accelerate.ensembles import describe_ensemble, ensemble_classes
from berth.accelerate.refusal import Refusal
from berth.tensors.arrays import Array

# Matrices of whole rows that fitted estimators keep, and centres of such rows.
_ROWS = ("_fit_X", "support_vectors_", "X_train_", "X_fit_", "X_", "cluster_centers_", "theta_", "means_", "center_")
_EDGES = ("data_min_", "data_max_", "quantiles_", "statistics_", "location_", "_x_mean")
_SPREADS = ("scale_", "var_", "std_", "_x_std")
# Of such a matrix, and of a table of thresholds, how much is read: of tens of thousands of columns a few rows.
_MOST_SEEN_ROWS = 2000
_MOST_SEEN = 4_000_000
_DEVIATIONS = 4.0
# How far one column of a linear model, which knows no range, may sway the score.
_SWAY = 10.0
_WEAKEST = 1e-9
# Steps that change each column by itself, so that their inverse leads back to it.
_COLUMNWISE = (
    "StandardScaler",
    "MinMaxScaler",
    "MaxAbsScaler",
    "RobustScaler",
    "PowerTransformer",
    "QuantileTransformer",
)


@dataclass
class Range:
    """One column while it is being learned: values seen, categories, and thresholds to be hit exactly."""

    seen: list[float] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)
    points: list[Array] = field(default_factory=list)

    def bounds(self) -> tuple[float, float]:
        """From where to where the values are; a guess where nothing is known."""
        values = np.concatenate([np.array(self.seen, float), *self.points])
        values = values[np.isfinite(values)]
        return (float(values.min()), float(values.max())) if values.size else (-10.0, 10.0)


def _numbers(value: Any) -> Array | None:
    try:
        found = np.asarray(value, np.float64)
    except (ValueError, TypeError):
        return None
    return found if found.size else None


def _most_rows(count: int) -> int:
    """How many rows of `count` columns are read."""
    return max(_MOST_SEEN // max(count, 1), 2)


def _rows_of(part: Any, count: int) -> Iterator[Array]:
    """Rows of `count` values in the range of what the part was fitted on."""
    fitted, most = vars(part), min(_MOST_SEEN_ROWS, _most_rows(count))
    for name in (*_ROWS, *_EDGES):
        values = _numbers(fitted.get(name))
        if values is not None and values.ndim in (1, 2) and values.shape[-1] == count:
            yield from np.atleast_2d(values)[:most]
    coefficients = _numbers(fitted.get("coef_"))
    if coefficients is not None and coefficients.ndim in (1, 2) and coefficients.shape[-1] == count:
        strength = np.abs(np.atleast_2d(coefficients)).max(axis=0)
        width = np.where(strength > 0, _SWAY / np.maximum(strength, _WEAKEST), _SWAY)
        yield -width
        yield width
    mean = _numbers(fitted.get("mean_"))
    if mean is None or mean.shape != (count,):
        return
    yield mean
    for name in _SPREADS:
        spread = _numbers(fitted.get(name))
        if spread is not None and spread.shape == (count,):
            width = _DEVIATIONS * (np.sqrt(spread) if name == "var_" else spread)
            yield mean - width
            yield mean + width


def thresholds(part: Any, count: int) -> dict[int, Array]:
    """Every split of an ensemble of trees, by column."""
    if type(part) not in ensemble_classes() or not hasattr(part, "n_features_in_"):
        return {}
    trees = describe_ensemble(part)
    if isinstance(trees, Refusal):
        return {}
    found: dict[int, list[Array]] = {}
    for tree in trees.trees:
        inner = ~tree.leaf & ~np.isin(np.arange(len(tree.left)), list(tree.members))
        for feature in np.unique(tree.feature[inner]).tolist():
            column = trees.columns[feature] if trees.columns else feature
            if column < count:
                found.setdefault(column, []).append(tree.split[inner & (tree.feature == feature)])
    return {column: np.unique(np.concatenate(splits)) for column, splits in found.items()}


def _learn_part(part: Any, places: Sequence[int], ranges: Sequence[Range]) -> None:
    for row in _rows_of(part, len(places)):
        for place, value in zip(places, row.tolist(), strict=True):
            ranges[place].seen.append(value)
    for column, splits in thresholds(part, len(places)).items():
        ranges[places[column]].points.append(splits)
    for name in ("categories_", "bin_edges_"):
        values = vars(part).get(name)
        if isinstance(values, (list, np.ndarray)) and len(values) == len(places):
            for place, one in zip(places, values, strict=True):
                if name == "categories_":
                    ranges[place].choices += [v for v in np.asarray(one).tolist() if v is not None and v == v]
                else:
                    ranges[place].points.append(np.asarray(one, np.float64))
    _learn_counts(part, places, ranges)


def _learn_counts(part: Any, places: Sequence[int], ranges: Sequence[Range]) -> None:
    """Counts for the models that were fitted on counts."""
    if type(part).__name__ in ("MultinomialNB", "ComplementNB"):
        for place in places:
            ranges[place].seen += [0.0, 20.0]


def _led_back(estimator: Any, count: int) -> dict[int, Array]:
    """The thresholds of a pipeline's last step, as values of the columns that go into its first."""
    from sklearn.pipeline import Pipeline

    if not isinstance(estimator, Pipeline) or len(estimator.steps) < 2:
        return {}
    before = [step for _, step in estimator.steps[:-1]]
    if any(type(step).__name__ not in _COLUMNWISE for step in before):
        return {}
    splits = thresholds(estimator.steps[-1][1], count)
    if not splits:
        return {}
    most = min(max(map(len, splits.values())), _most_rows(count))
    table = np.column_stack([np.resize(splits.get(at, np.zeros(1)), most) for at in range(count)])
    for step in reversed(before):
        table = np.asarray(step.inverse_transform(table))
    return {at: np.unique(table[: len(values), at]) for at, values in splits.items()}


def learn_ranges(estimator: Any, count: int) -> list[Range]:
    """What a fitted estimator knows of each of its `count` columns."""
    from berth.loaders.columns import walk_entrances

    ranges = [Range() for _ in range(count)]
    for seen in walk_entrances(estimator, None):
        places: Sequence[int] = range(count) if seen.positions is None else seen.positions
        if hasattr(seen.part, "__dict__") and max(places, default=count) < count:
            _learn_part(seen.part, places, ranges)
    for column, values in _led_back(estimator, count).items():
        ranges[column].points.append(values)
    return ranges


def near(splits: Array) -> Array:
    """The splits, one step of a double and of a float32 to either side, and what float32 rounds to and from them."""
    with np.errstate(over="ignore"):
        single = splits.astype(np.float32)
        below = np.nextafter(single, np.float32(-np.inf))
        above = np.nextafter(single, np.float32(np.inf))
    wide = [values.astype(np.float64) for values in (single, below, above)]
    halves = [(wide[0] + side) / 2 for side in wide[1:]]
    steps = [np.nextafter(values, way) for values in (splits, *halves) for way in (-np.inf, np.inf)]
    found: Array = np.stack([splits, *wide, *halves, *steps], axis=1)
    return found[:, np.isfinite(found).all(axis=0)] if found.size else found
