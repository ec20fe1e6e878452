"""What an instance may do when it predicts, judged by its attributes: no files, no threads, no size out of proportion.

Promised for scikit-learn's classes and what is derived from them, wherever the instance lies in the file: a prediction
opens no file that a request names (`input="filename"` is refused), and no single attribute makes it allocate more than
`_MAX_SIZE` values a row. Threads, printing and caches are reset where a model is served (loaders/fitted.py). Not
promised: that a prediction is quick. A regular expression or a number of iterations is the file's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from berth.errors import LoadError, UnsafeArtifact

# scikit-learn's largest default, of HashingVectorizer, is 2**20.
_MAX_SIZE = 2**24
_SIZES = (
    "n_features",
    "n_components",
    "n_output_features_",
    "_n_out_full",
    "n_features_out_",
    "_n_features_out",
    "n_classes_",
    "_n_classes",
    "n_outputs_",
    "n_clusters",
    "n_knots",
    "n_trees_per_iteration_",
)
# Loops of a prediction that run as often as the attribute says, with work in each.
_MAX_ROUNDS = 1000
_ROUNDS = ("_max_degree", "sample_steps", "n_layers_")
_MT19937_WORDS = 624


@cache
def is_estimator_class(kind: type) -> bool:
    """Whether a class is scikit-learn's, or derived from one of its classes."""
    return any(base.__module__.startswith("sklearn.") for base in kind.__mro__)


def check_vectorizer(kind: type, state: Mapping[str, Any]) -> None:
    """Refuse a text vectorizer that opens files which a request names. Raises UnsafeArtifact."""
    source = state.get("input", "content")
    opens = "decode_error" in state or hasattr(kind, "build_analyzer")  # a forged state may leave the first out
    if opens and not (type(source) is str and source == "content"):
        raise UnsafeArtifact(
            f"{kind.__name__}(input={str(source)[:20]!r}) would read any file that a request names; "
            "save it with input='content'"
        )


def _largest(value: Any) -> int:
    """The largest whole number in an attribute: a number itself, or an array or list of a few."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size:
        return int(value.max())
    if type(value) in (list, tuple):
        return max((_largest(item) for item in value if isinstance(item, int | np.integer)), default=0)
    return 0


def check_sizes(kind: type, state: Mapping[str, Any]) -> None:
    """Refuse sizes that no fitted model has. Raises LoadError."""
    for names, most in ((_SIZES, _MAX_SIZE), (_ROUNDS, _MAX_ROUNDS)):
        for name in names:
            if (size := _largest(state.get(name))) > most:
                raise LoadError(
                    f"the file is damaged or hostile: {name}={size} of {kind.__name__} is more than {most}, "
                    "so that one row would fill the memory"
                )


def check_bits(kind: type, state: Any) -> None:
    """Refuse a Mersenne Twister that reads past its words. Raises LoadError."""
    state = state[0] if type(state) is tuple and state else state
    if kind.__name__ != "MT19937" or type(state) is not dict:
        return
    inner = state.get("state")
    position = inner.get("pos") if type(inner) is dict else None
    if not isinstance(position, int | np.integer) or not 0 <= position <= _MT19937_WORDS:
        raise LoadError(f"the file is damaged or hostile: {str(position)[:20]} is not a position of MT19937")


def check_inverse_covariance(kind: type, state: Mapping[str, Any]) -> None:
    """Refuse a Mahalanobis distance over a matrix that is too small: scipy reads it unchecked. Raises LoadError."""
    width = state.get("n_features_in_")
    for name in ("metric_params", "effective_metric_params_"):
        inverse = params.get("VI") if type(params := state.get(name)) is dict else None
        if inverse is not None and np.shape(inverse) != (width, width):
            raise LoadError(
                f"the file is damaged or hostile: VI of {kind.__name__} has the shape {np.shape(inverse)} "
                f"for {str(width)[:20]} features"
            )
