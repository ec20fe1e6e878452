"""What a file says to compiled code: checked once, after everything has been loaded and before anything is used.

scikit-learn's and scipy's compiled code trusts the numbers in a fitted object: child and feature numbers of trees,
pointers of sparse matrices, counts of support vectors. One wrong number reads or writes outside of an array, or never
ends. `check_native_states` finds every object that the loaded one reaches and checks each as its class demands.

At the end, not as each state is set: a file may fill a list, a dict or an array after it has put it into a state.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from berth.loaders.legacy.tree_states import refuses_missing
from berth.loaders.unpickle.native_clusters import check_birch, check_k_means
from berth.loaders.unpickle.native_features import (
    check_categories,
    check_hasher,
    check_one_hot,
    check_spline,
    check_vocabulary,
)
from berth.loaders.unpickle.native_histograms import check_histogram_boosting
from berth.loaders.unpickle.native_neighbors import check_ball_tree, check_kd_tree, check_metric, check_neighbors
from berth.loaders.unpickle.native_random import check_bits, check_generator, check_random_state
from berth.loaders.unpickle.native_refusals import refuse
from berth.loaders.unpickle.native_sparse import check_bsr, check_coo, check_csc, check_csr, check_dia, check_lil
from berth.loaders.unpickle.native_trees import (
    check_decision_tree,
    check_forest,
    check_gradient_boosting,
    check_isolation_forest,
    check_trees,
)
from berth.loaders.unpickle.native_vectors import check_machine

_TREE = "sklearn.tree._tree:Tree"
_BOOSTING = "sklearn.ensemble._gb:BaseGradientBoosting"

# One line a class: the checks of its own and of every class above it are made.
_CHECKS: dict[str, Callable[[Any], None]] = {
    _TREE: lambda tree: check_trees([tree]),
    _BOOSTING: check_gradient_boosting,
    "numpy.random._generator:Generator": check_generator,
    "numpy.random.bit_generator:BitGenerator": check_bits,
    "numpy.random.mtrand:RandomState": check_random_state,
    "scipy.interpolate._bsplines:BSpline": check_spline,
    "scipy.sparse._bsr:_bsr_base": check_bsr,
    "scipy.sparse._coo:_coo_base": check_coo,
    "scipy.sparse._csc:_csc_base": check_csc,
    "scipy.sparse._csr:_csr_base": check_csr,
    "scipy.sparse._dia:_dia_base": check_dia,
    "scipy.sparse._lil:_lil_base": check_lil,
    "sklearn.cluster._birch:Birch": check_birch,
    "sklearn.cluster._kmeans:_BaseKMeans": check_k_means,
    "sklearn.ensemble._forest:BaseForest": check_forest,
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting:BaseHistGradientBoosting": check_histogram_boosting,
    "sklearn.ensemble._iforest:IsolationForest": check_isolation_forest,
    "sklearn.feature_extraction._dict_vectorizer:DictVectorizer": check_vocabulary,
    "sklearn.feature_extraction._hash:FeatureHasher": check_hasher,
    "sklearn.feature_extraction.text:CountVectorizer": check_vocabulary,
    "sklearn.feature_extraction.text:HashingVectorizer": check_hasher,
    "sklearn.metrics._dist_metrics:DistanceMetric": check_metric,
    "sklearn.neighbors._ball_tree:BinaryTree64": check_ball_tree,
    "sklearn.neighbors._ball_tree:BinaryTree32": check_ball_tree,
    "sklearn.neighbors._base:NeighborsBase": check_neighbors,
    "sklearn.neighbors._kd_tree:BinaryTree64": check_kd_tree,
    "sklearn.neighbors._kd_tree:BinaryTree32": check_kd_tree,
    "sklearn.preprocessing._encoders:OneHotEncoder": check_one_hot,
    "sklearn.preprocessing._encoders:_BaseEncoder": check_categories,
    "sklearn.svm._base:BaseLibSVM": check_machine,
    "sklearn.tree._classes:BaseDecisionTree": check_decision_tree,
}
_LIBRARIES = ("sklearn", "scipy")
# What holds nothing that would have to be checked.
_PLAIN = frozenset((str, bytes, bytearray, int, float, complex, bool, type(None), np.dtype, slice, range))
_NOT_FOLLOWED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, np.generic, np.ufunc)


@cache
def _names(kind: Any) -> frozenset[str]:
    return frozenset(f"{base.__module__}:{base.__qualname__}" for base in kind.__mro__)


@cache
def _checks(kind: Any) -> tuple[Callable[[Any], None], ...]:
    names = _names(kind)
    return tuple(check for name, check in _CHECKS.items() if name in names)


@cache
def _methods(kind: Any) -> frozenset[str]:
    """What an attribute of the same name would stand in for: the methods of a library's class.

    A user's own class below one may have, say, a `score` of its own; what the library uses inside begins with `_`.
    """
    own = kind.__module__.split(".")[0] not in _LIBRARIES
    return frozenset(
        name
        for base in kind.__mro__
        if base.__module__.split(".")[0] in _LIBRARIES
        for name, value in vars(base).items()
        if hasattr(value, "__get__") and not hasattr(value, "__set__") and (name.startswith("_") or not own)
    )


def _hidden_methods(kind: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Methods that an attribute hides, but for the function that an upgraded tree has for its own version's sake."""
    return [name for name in _methods(kind) & attributes.keys() if attributes[name] is not refuses_missing]


def check_native_state(instance: Any) -> None:
    """Raise UnsafeArtifact, in one line, if compiled code could be led astray by the state of this object."""
    kind: Any = type(instance)
    if hasattr(instance, "__dict__") and (hidden := _hidden_methods(kind, vars(instance))):
        refuse(instance, f"state has its own {min(hidden)!r} in place of the method")
    for check in _checks(kind):
        try:
            check(instance)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Not only numbers can be forged: what a check stumbles over is no state that the class ever had.
            refuse(instance, f"state is not one that it can have ({type(error).__name__}: {str(error)[:100]})")


def check_native_states(root: object) -> None:
    """`check_native_state` for all that `root` reaches."""
    trees: list[Any] = []
    last: list[object] = []
    for instance in _reached(root):
        kind: Any = type(instance)
        names = _names(kind)
        if _TREE in names:
            trees.append(instance)
        elif _BOOSTING in names:
            last.append(instance)
        # Looking for a partial's attributes would give it some.
        elif not isinstance(instance, partial) and (hasattr(instance, "__dict__") or _checks(kind)):
            check_native_state(instance)
    _check_trees(trees)
    # Boosting computes its first prediction, so what it is made of comes first: the innermost was found last.
    for instance in reversed(last):
        check_native_state(instance)


def _check_trees(trees: list[Any]) -> None:
    try:
        check_trees(trees)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        for tree in trees:  # one by one, to name the one
            check_native_state(tree)
        raise


def _reached(root: object) -> list[Any]:
    """Every object below `root`, as the garbage collector sees it, so that no kind of container hides one."""
    found: list[Any] = []
    seen = {id(root)}
    waiting: list[Any] = [root]
    while waiting:
        found += waiting
        arrays = [thing for thing in waiting if isinstance(thing, np.ndarray)]
        held = gc.get_referents(*waiting)
        for array in arrays:
            held += _held_by(array)
        waiting = []
        for thing in held:
            if type(thing) in _PLAIN or id(thing) in seen or isinstance(thing, _NOT_FOLLOWED):
                continue
            seen.add(id(thing))
            waiting.append(thing)
    return found


def _held_by(array: np.ndarray[Any, Any]) -> list[Any]:
    """The objects in an array, which the collector does not see."""
    if not array.dtype.hasobject:
        return [vars(array)] if hasattr(array, "__dict__") else []
    if array.dtype.names is None:
        return array.ravel().tolist() if array.dtype.kind == "O" else []
    return [thing for name in array.dtype.names for thing in _held_by(array[name])]
