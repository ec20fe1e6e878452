"""What the checks of native states share: how they find a bad number, and how they name it."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import numpy as np

from berth.errors import UnsafeArtifact


def refuse(instance: object, what: str) -> NoReturn:
    """Raise UnsafeArtifact: the class, and what is wrong with its state."""
    raise UnsafeArtifact(f"a {type(instance).__name__} whose {what}")


def brief(value: object) -> str:
    """A value for a message: its own text only where that is short and harmless."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype.str if value.dtype.names is None else 'records'} {value.shape}"
    if isinstance(value, bool | int | float | np.bool | np.integer | np.floating | type(None)):
        return str(value)[:80]
    if type(value) is tuple and all(type(item) is int for item in value):
        return str(value)[:80]
    return f"a {type(value).__name__}"


def native_class(module: str, name: str) -> Any:
    """The class if its module has been imported, else what nothing is an instance of."""
    return getattr(sys.modules.get(module), name, ())


def check_kind(instance: object, name: str, value: object, kind: Any) -> None:
    """Raise UnsafeArtifact if `value` is no instance of `kind`."""
    if not isinstance(value, kind):
        refuse(instance, f"{name} is {brief(value)}, not a {getattr(kind, '__name__', 'known class')}")


def check_count(instance: object, name: str, value: object, expected: int) -> None:
    """Raise UnsafeArtifact if `value` is not the number that the rest of the state implies."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or int(value) != expected:
        refuse(instance, f"{name} is {brief(value)} where the rest of its state implies {expected}")


def check_whole(instance: object, name: str, value: object, low: int, high: int) -> None:
    """Raise UnsafeArtifact if `value` is not a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= int(value) <= high:
        refuse(instance, f"{name} is {brief(value)}, outside {low} to {high}")


def check_shape_is(instance: object, name: str, value: object, shape: tuple[int, ...]) -> None:
    """Raise UnsafeArtifact if `value` is not an array of that shape."""
    if not isinstance(value, np.ndarray) or value.shape != shape:
        refuse(instance, f"{name} is {brief(value)} where the rest of its state implies the shape {shape}")


def check_dimensions(instance: object, name: str, value: object, dimensions: int, kinds: str) -> None:
    """Raise UnsafeArtifact if `value` is not an array of numbers of one of the kinds."""
    if not isinstance(value, np.ndarray) or value.ndim != dimensions or value.dtype.kind not in kinds:
        refuse(instance, f"{name} is {brief(value)}, not an array of {dimensions} dimensions and kind {kinds}")


def check_inside(instance: object, name: str, values: Any, low: int, high: int) -> None:
    """Raise UnsafeArtifact if a whole number of the array `values` lies outside `low` to `high`."""
    if values.size and (int(values.min()) < low or int(values.max()) > high):
        at = int(np.flatnonzero((values.ravel() < low) | (values.ravel() > high))[0])
        refuse(instance, f"{name}[{at}] is {values.ravel()[at]}, outside {low} to {high}")


def check_all(instance: object, name: str, good: Any, values: Any, wanted: str) -> None:
    """Raise UnsafeArtifact for the first of `values` where `good` is false."""
    if not good.all():
        at = int(np.argmin(good))
        refuse(instance, f"{name}[{at}] is {values[at]}, {wanted}")
