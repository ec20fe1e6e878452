"""Numbers in a document as a library will read it: each check raises ValueError, and the caller says of what file."""

from __future__ import annotations

from typing import Any

import numpy as np


def require(good: Any, what: str) -> None:
    """Raises ValueError with `what`, unless it is `good`."""
    if not good:
        raise ValueError(what)


def whole(values: Any, key: str, low: int, high: int) -> int:
    """A whole number, which XGBoost writes as a text."""
    value = int(values[key])
    require(low <= value <= high, f"{key} is {value}, outside {low} to {high}")
    return value


def numbers_of(values: Any, key: str, count: int | None = None) -> Any:
    """A list of numbers as an array of shape [n], of `count` where that is known."""
    array = np.asarray(values[key])
    array = array.astype(np.int64) if not array.size else array
    require(array.ndim == 1 and array.dtype.kind in "iufb", f"{key} is not a list of numbers")
    require(count is None or len(array) == count, f"{key} has {len(array)} numbers where {count} belong")
    return array


def require_inside(key: str, values: Any, low: int, high: int) -> None:
    """That whole numbers lie within limits, both included."""
    require(values.dtype.kind in "iu" or not values.size, f"{key} is not a list of whole numbers")
    require_between(key, values, low, high)


def require_between(key: str, values: Any, low: int, high: int) -> None:
    """That numbers of any kind lie within limits, both included."""
    bad = (values < low) | (values > high)
    require(not bad.any(), f"{key} is {values[bad][0] if bad.any() else 0}, outside {low} to {high}")
