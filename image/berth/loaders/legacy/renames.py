"""Where the names of older libraries are today."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

from berth.loaders.unpickle.allow import Name, default_allow

_LIBRARIES = ("sklearn", "scipy")
# Modules that moved as a whole, out of the subpackage where they were.
_MODULES = {
    "_loss": "sklearn._loss._loss",
    "numpy._core._multiarray_umath": "numpy",
    "numpy.core._multiarray_umath": "numpy",
    "numpy.core.umath": "numpy",
    "sklearn.neighbors._dist_metrics": "sklearn.metrics._dist_metrics",
    "sklearn.neighbors.ball_tree": "sklearn.neighbors._ball_tree",
    "sklearn.neighbors.dist_metrics": "sklearn.metrics._dist_metrics",
    "sklearn.neighbors.kd_tree": "sklearn.neighbors._kd_tree",
}
_NAMES: dict[Name, Name] = {
    ("sklearn.preprocessing.imputation", "Imputer"): ("sklearn.impute._base", "SimpleImputer"),
    ("sklearn.utils.fixes", "MaskedArray"): ("numpy.ma.core", "MaskedArray"),
}
_OLD_JOBLIB = "sklearn.externals."


@cache
def _homes() -> dict[Name, tuple[str, ...]]:
    """For a subpackage and a name of the allow-list, the modules of the subpackage that have it."""
    homes: defaultdict[Name, list[str]] = defaultdict(list)
    for module, name in default_allow():
        if module.split(".")[0] in _LIBRARIES:
            homes[_subpackage(module), name].append(module)
    return {key: tuple(modules) for key, modules in homes.items()}


def _subpackage(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _moved(pair: Name) -> Name:
    module, name = pair
    if pair in _NAMES:
        return _NAMES[pair]
    if module.startswith(f"{_OLD_JOBLIB}joblib."):
        return module.removeprefix(_OLD_JOBLIB), name
    module = _MODULES.get(module, module)
    # Since 1.3 there is a distance for each width; the one without a number was for doubles.
    if module == "sklearn.metrics._dist_metrics" and name.endswith("Distance"):
        name = f"{name}64"
    return module, name


@cache
def todays_name(pair: Name) -> Name:
    """The name under which today's libraries have what an older one called `pair`; `pair` itself if none is known.

    A class that moved stays in its subpackage: `sklearn.ensemble.forest:RandomForestClassifier` is the one class of
    that name which the allow-list has below `sklearn.ensemble`. So no name leads to anything that is not on that list.
    """
    allowed = default_allow()
    if pair in allowed:
        return pair
    moved = _moved(pair)
    homes = _homes().get((_subpackage(moved[0]), moved[1]), ())
    if moved not in allowed and len(homes) == 1:
        moved = homes[0], moved[1]
    return moved
