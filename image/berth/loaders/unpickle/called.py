"""What scikit-learn calls out of an estimator's state, and with which of the file's arguments.

Promised: of the names on Berth's own list, only a function or ufunc that fits the attribute stands where scikit-learn
calls it, never a class or an object, and it gets no keyword that is not in the tables below. So a file cannot have
memory read or written (`out`, `buffer`, `initial`, `where`, `dtype=object`), nor start threads through `n_jobs`.
What the user names in BERTH_PICKLE_ALLOW is trusted, and so are its arguments.
"""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from berth.errors import UnsafeArtifact
from berth.loaders.unpickle.allow import Name, default_allow

ARRAY, MEASURE, NONE = "array", "measure", "none"

# The attributes that hold functions, and of which family they may be; user functions may stand in all of them.
CALLED: dict[str, str] = {
    "func": ARRAY,
    "inverse_func": ARRAY,
    "pooling_func": ARRAY,
    "weights": ARRAY,
    "score_func": MEASURE,
    "_score_func": MEASURE,
    "metric": MEASURE,
    "effective_metric_": MEASURE,
    "kernel": MEASURE,
    "affinity": MEASURE,
    "analyzer": NONE,
    "preprocessor": NONE,
    "tokenizer": NONE,
    "feature_names_out": NONE,
    "importance_getter": NONE,
    "fun": NONE,
    "init": NONE,
    "scoring": NONE,
}

# Functions of scikit-learn and scipy that stand in one attribute only.
_FIXED: dict[str, Name] = {
    "_asarray": ("scipy._lib.array_api_compat.numpy._aliases", "asarray"),
    "_kmeans_single": ("sklearn.cluster._kmeans", "_kmeans_single_lloyd"),
}

# Which attribute's keywords another attribute holds.
KEYWORDS: dict[str, str] = {
    "kw_args": "func",
    "inv_kw_args": "inverse_func",
    "metric_params": "metric",
    "effective_metric_params_": "effective_metric_",
    "kernel_params": "kernel",
    "pairwise_kernels_kwargs": "metric",
    "fun_args": "fun",
    "_kwargs": "_score_func",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REDUCE = _words("axis keepdims")
_REDUCTIONS = "all any amax amin average max mean median min nanmax nanmean nanmedian nanmin nansum prod ptp sum"
_ARRAY_KEYWORDS: dict[str, frozenset[str]] = {
    **dict.fromkeys(_words(_REDUCTIONS), _REDUCE),
    **dict.fromkeys(_words("nanstd nanvar std var"), _REDUCE | {"ddof"}),
    **dict.fromkeys(_words("percentile quantile"), _REDUCE | {"q", "method"}),
    **dict.fromkeys(_words("around round"), _words("decimals")),
    "clip": _words("a_min a_max min max"),
    "cumsum": _words("axis"),
    "diff": _words("axis n"),
    "imag": frozenset(),
    "nan_to_num": _words("copy nan posinf neginf"),
    "ravel": _words("order"),
    "real": frozenset(),
    "sort": _words("axis kind stable"),
    "squeeze": _words("axis"),
    "transpose": _words("axes"),
}
_METRIC_KEYWORDS = _words("V VI alpha coef0 degree gamma missing_values p squared sum_over_features w")
_SCORE_KEYWORDS = _words(
    "adjusted alpha average beta center d2_scale discrete_features eps force_finite greater_is_better k labels "
    "max_fpr multi_class multioutput n_neighbors normalize pos_label power quantile random_state sample_weight "
    "squared weights zero_division"
)
_CHECK_ARRAY_KEYWORDS = _words(
    "accept_large_sparse accept_sparse copy dtype ensure_2d ensure_all_finite ensure_min_features ensure_min_samples "
    "force_all_finite order"
)
# An integer keyword may be a number of repetitions: np.diff does n of them.
_MAX_INTEGER = 2**31
_MAX_REPETITIONS = 1000
_MAX_NESTED = 3
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, np.ufunc, partial)
_OTHER_FUNCTIONS = ("cython_function_or_method", "_ArrayFunctionDispatcher")


def is_function(value: object) -> bool:
    """Whether a value is a function of any kind, or a partial."""
    return isinstance(value, _FUNCTIONS) or type(value).__name__ in _OTHER_FUNCTIONS


def name_of(function: Any) -> Name:
    """The name under which a function pickles."""
    if isinstance(function, np.ufunc):
        return ("numpy" if getattr(np, function.__name__, None) is function else "scipy.special", function.__name__)
    return (str(getattr(function, "__module__", "")), str(getattr(function, "__qualname__", "")))


@cache
def _listed_roots() -> frozenset[str]:
    return frozenset(module.split(".")[0] for module, _ in default_allow())


def is_own(value: Any, own: Collection[Name]) -> bool:
    """Whether a function or class is the user's: named in BERTH_PICKLE_ALLOW, or made by what is."""
    module, name = name_of(value)
    return (module, name) in own or module.split(".")[0] not in _listed_roots()


def _family(function: Any) -> str:
    module, name = name_of(function)
    if isinstance(function, np.ufunc) or (module == "numpy" and name in _ARRAY_KEYWORDS):
        return ARRAY
    return MEASURE if module.startswith(("sklearn.metrics.", "sklearn.feature_selection.")) else NONE


def _label(owner: type, key: str) -> str:
    return f"{key} of {owner.__name__}"


def _spell(value: Any) -> str:
    return ":".join(name_of(value)) if is_function(value) or isinstance(value, type) else f"a {type(value).__name__}"


def _is_plain(value: Any, nested: int = 0) -> bool:
    """Whether a keyword's value is a number, a word, or an array or list of them."""
    if isinstance(value, np.ndarray):
        return type(value) is np.ndarray and value.dtype.kind in "biufU"
    if type(value) in (tuple, list):
        return nested < _MAX_NESTED and all(_is_plain(item, nested + 1) for item in value)
    if isinstance(value, int | np.integer):
        return abs(int(value)) <= _MAX_INTEGER
    return value is None or isinstance(value, float | str | np.floating | np.bool_)


def _is_number_type(value: Any) -> bool:
    """Whether a `dtype` keyword is one of plain numbers, or a list of such."""
    if type(value) is list:
        return all(not isinstance(item, list) and _is_number_type(item) for item in value)
    if isinstance(value, type):
        return value in (bool, int, float) or issubclass(value, np.number | np.bool_)
    return value in (None, "numeric") or (isinstance(value, np.dtype) and value.kind in "biuf")


def _known_keywords(function: Any) -> Collection[str]:
    module, name = name_of(function)
    if isinstance(function, np.ufunc):
        return ("dtype",)
    if module == "numpy":
        return _ARRAY_KEYWORDS.get(name, frozenset())
    if module == "sklearn.metrics.pairwise":
        return _METRIC_KEYWORDS
    if (module, name) == ("sklearn.utils.validation", "check_array"):
        return _CHECK_ARRAY_KEYWORDS
    return _SCORE_KEYWORDS if _family(function) == MEASURE else ()


def check_keywords(where: str, function: Any, keywords: Any, own: Collection[Name]) -> None:
    """Raise UnsafeArtifact unless the library may call `function` (None or a metric's name too) with the keywords."""
    if keywords is None:
        return
    if type(keywords) is not dict or any(type(key) is not str for key in keywords):
        raise UnsafeArtifact(f"{where}, which are not named arguments")
    inner = function.func if isinstance(function, partial) else function
    if is_function(inner) and is_own(inner, own):
        return
    known = _known_keywords(inner) if is_function(inner) else _METRIC_KEYWORDS
    for key, value in keywords.items():
        if key not in known:
            raise UnsafeArtifact(f"{where}: the argument {key[:40]!r}, which no model needs for {_spell(function)}")
        if not (_is_number_type(value) if key == "dtype" else _is_plain(value)):
            raise UnsafeArtifact(f"{where}: {_spell(value)} as the argument {key[:40]!r}")
        if key == "n" and not (isinstance(value, int) and 0 <= value <= _MAX_REPETITIONS):
            raise UnsafeArtifact(f"{where}: n={str(value)[:20]}, more than {_MAX_REPETITIONS} repetitions")


def check_partial(function: Any, args: Any, keywords: Any, own: Collection[Name]) -> None:
    """Raise UnsafeArtifact unless this may be a partial: an allowed function with harmless arguments."""
    where = "functools:partial"
    if not is_function(function) or isinstance(function, partial):
        raise UnsafeArtifact(f"{where} of {_spell(function)}, which is not an allowed function")
    if type(args) is not tuple or type(keywords) is not dict:
        raise UnsafeArtifact(f"{where} without proper arguments")
    if is_own(function, own):
        return
    if name_of(function) in _FIXED.values():
        raise UnsafeArtifact(f"{where} of {_spell(function)}")
    # The arguments after a ufunc's inputs are arrays that it writes to.
    if len(args) > (function.nin - 1 if isinstance(function, np.ufunc) else 0):
        raise UnsafeArtifact(f"{where} of {_spell(function)} with {len(args)} arguments that have no name")
    if not all(_is_plain(arg) for arg in args):
        raise UnsafeArtifact(f"{where} of {_spell(function)} with arguments that are not plain values")
    check_keywords(f"{where} of {_spell(function)}", function, keywords, own)


def _check_function(owner: type, key: str, value: Any, own: Collection[Name]) -> None:
    """One function, class or object in an attribute of a library's class."""
    where = f"{_spell(value)} as {_label(owner, key)}"
    if isinstance(value, type):
        if "dtype" not in key or is_own(value, own):
            raise UnsafeArtifact(f"{where}, where no class belongs")
        return
    if isinstance(value, partial):
        inner = value.func
        if key not in CALLED or not (_fits(key, inner, own) or inner.__name__ == "check_array"):
            raise UnsafeArtifact(f"functools:partial of {where}")
    elif is_function(value) and not _fits(key, value, own):
        raise UnsafeArtifact(f"{where}, where that function does not belong")


def _fits(key: str, function: Any, own: Collection[Name]) -> bool:
    if is_own(function, own):
        return True
    if key in _FIXED:
        return name_of(function) == _FIXED[key]
    return CALLED.get(key, NONE) != NONE and CALLED[key] == _family(function)


def _is_object(value: Any, own: Collection[Name]) -> bool:
    """Whether it is an object of a library's class that can be called."""
    return callable(value) and not isinstance(value, type) and not is_function(value) and not is_own(type(value), own)


def _may_be_called(key: str, value: Any) -> bool:
    module = type(value).__module__
    if key in ("kernel", "kernel_", "k1", "k2"):
        return module == "sklearn.gaussian_process.kernels"
    return key not in CALLED or (key == "scoring" and module == "sklearn.metrics._scorer")


def check_calls(owner: type, state: Mapping[str, Any], own: Collection[Name]) -> None:
    """Check every function, class and set of keywords in a state. Raises UnsafeArtifact.

    Of a class of the user's, only the attributes that scikit-learn's own classes call are checked.
    """
    strict = not is_own(owner, own)
    for key, value in state.items():
        if not (strict or key in CALLED or key in KEYWORDS):
            continue
        if isinstance(value, type) or is_function(value):
            _check_function(owner, key, value, own)
        elif _is_object(value, own) and not _may_be_called(key, value):
            raise UnsafeArtifact(f"a {type(value).__name__} as {_label(owner, key)}, which scikit-learn calls")
        if key in KEYWORDS and value is not None:
            check_keywords(_label(owner, key), state.get(KEYWORDS[key]), value, own)
        if key in _MEMBERS:
            _check_members(owner, key, value)


_MEMBERS = ("steps", "estimators", "estimators_", "transformer_list", "transformers", "transformers_", "named_steps")


def _check_members(owner: type, key: str, value: Any) -> None:
    """The parts of an estimator are instances, alone or beside their name. Raises UnsafeArtifact."""
    items: Iterable[Any] = value.values() if isinstance(value, dict) else () if value is None else value
    if not isinstance(items, Iterable) or isinstance(items, str):
        raise UnsafeArtifact(f"a {type(value).__name__} as {_label(owner, key)}")
    for item in items:
        parts = item[:2] if isinstance(item, tuple | list) else (item,)
        for part in parts:
            if isinstance(part, type) or is_function(part):
                raise UnsafeArtifact(f"{_spell(part)} in {_label(owner, key)}, where an instance belongs")


def check_metric(state: Any, own: Collection[Name]) -> None:
    """Raise UnsafeArtifact unless the state of a PyFuncDistance holds a function that may measure a distance."""
    function, keywords = state[3:5] if type(state) is tuple and len(state) == 5 else (None, None)
    if not is_function(function) or not (is_own(function, own) or _family(function) == MEASURE):
        raise UnsafeArtifact(f"{_spell(function)} as the function of a PyFuncDistance")
    check_keywords("the keywords of a PyFuncDistance", function, keywords, own)


def check_open_values(kind: type, values: Iterable[Any]) -> None:
    """Raise UnsafeArtifact for functions in a Bunch: its keys are attributes, methods included."""
    if kind.__module__ == "sklearn.utils._bunch" and any(callable(value) for value in values):
        raise UnsafeArtifact("a function in a Bunch, where it would stand for a method")
