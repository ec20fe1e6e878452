"""How many columns an estimator from before 0.24 accepts: it did not say so, but what it learnt has their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_WIDTH = "n_features_in_"


def _last(value: Any) -> int:
    """The columns of a matrix; of a vector, its length."""
    return int(value.shape[-1]) if value.shape else 1


def _inside(value: Any) -> int | None:
    """What the first of some fitted estimators accepts."""
    first = value.flat[0] if isinstance(value, np.ndarray) else next(iter(value), None)
    return _own(first)


def _own(value: Any) -> int | None:
    width = getattr(value, _WIDTH, None)
    return int(width) if isinstance(width, int | np.integer) else None


# The attribute, and how it holds the number; the first that an estimator has counts.
_TELLING: tuple[tuple[str, Callable[[Any], int | None]], ...] = (
    # A selection's n_features_ is what it keeps.
    ("ranking_", len),
    ("n_features_", int),
    ("_n_features", int),
    ("n_input_features_", int),
    ("shape_fit_", lambda shape: int(shape[1])),
    ("theta_", _last),
    ("feature_log_prob_", _last),
    ("coefs_", lambda layers: int(layers[0].shape[0])),
    ("means_", _last),
    ("coef_", _last),
    ("statistics_", len),
    ("categories_", len),
    ("n_bins_", len),
    ("mean_", _last),
    ("scale_", _last),
    ("center_", _last),
    ("max_abs_", len),
    ("data_max_", len),
    ("quantiles_", _last),
    ("lambdas_", len),
    ("variances_", len),
    ("cluster_centers_", _last),
    ("components_", _last),
    ("_fit_X", _last),
    ("estimators_", _inside),
    ("calibrated_classifiers_", lambda pairs: _own(pairs[0].estimator) if pairs else None),
    ("best_estimator_", _own),
    ("estimator_", _own),
)


def set_width(target: Any, state: dict[str, Any]) -> None:
    """Give a state the number of columns, where it lacks it and the class keeps it as an attribute."""
    if _WIDTH in state or isinstance(getattr(type(target), _WIDTH, None), property):
        return
    for name, measure in _TELLING:
        if (value := state.get(name)) is not None:
            width = measure(value)
            if width is not None:
                state[_WIDTH] = width
                return
