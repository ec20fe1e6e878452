"""Names for which Berth's own stand in, so that no list need allow them: nothing of what they name is used."""

from __future__ import annotations

from typing import Any

from berth.loaders.unpickle.allow import Name
from berth.loaders.unpickle.pandas_data import PANDAS
from berth.loaders.unpickle.rebuild import new_partial
from berth.loaders.unpickle.unread import GETATTR, get_unread, is_unread

WRAPPER: Name = ("joblib.numpy_pickle", "NumpyArrayWrapper")
PARTIAL: Name = ("functools", "partial")


class Wrapper:
    """Stands for joblib's NumpyArrayWrapper until its array has been read."""

    shape: object = None
    dtype: object = None
    order: object = "C"
    # joblib before 1.2 wrote no padding.
    numpy_array_alignment_bytes: object = None


# Not on the list, because nothing of them is used: Berth's own stand in for them, and take only what is harmless.
GUARDED: dict[Name, Any] = {WRAPPER: Wrapper, PARTIAL: new_partial, GETATTR: get_unread, **PANDAS}


def is_guarded(pair: Name) -> bool:
    """Whether Berth's own stands in for what a name means, so that no list need allow it."""
    return pair in GUARDED or is_unread(pair)
