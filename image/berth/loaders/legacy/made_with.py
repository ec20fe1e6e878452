"""Which scikit-learn made a file, what that means here, and how to take a model out of it."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata
from typing import TypeAlias

from berth.errors import LoadError

# 1.2.2 is of the series (1, 2): between series a model's meaning may change, within one it does not.
Series: TypeAlias = tuple[int, int]

VERSION_KEY = "_sklearn_version"
_FORM = re.compile(r"(\d{1,4})\.(\d{1,4})[\w.+-]{0,40}")
OLDEST: Series = (0, 20)
# The newest Python that has wheels of a series.
_PYTHONS: tuple[tuple[Series, str], ...] = (
    ((0, 21), "3.7"),
    ((0, 23), "3.8"),
    ((1, 0), "3.9"),
    ((1, 2), "3.11"),
    ((1, 5), "3.12"),
)


def parse_series(version: object) -> Series | None:
    """The series of a version as a state holds it; None for what is no version."""
    match = _FORM.fullmatch(version) if type(version) is str else None
    return (int(match[1]), int(match[2])) if match else None


@cache
def installed_sklearn() -> str:
    """The version of scikit-learn here; empty where there is none."""
    try:
        return metadata.version("scikit-learn")
    except metadata.PackageNotFoundError:
        return ""


def is_foreign(version: str | None) -> bool:
    """Whether a file was made by another scikit-learn than the one that is installed."""
    return version is not None and version != installed_sklearn()


def say_made_with(version: str) -> str:
    """The sentence that begins every message about a file from another scikit-learn."""
    return f"made with scikit-learn {version}; this is {installed_sklearn() or 'a Python without it'}"


def say_export(name: str, version: str) -> str:
    """How to take a model out of its own scikit-learn in a format that does not depend on it."""
    series = parse_series(version)
    python = next((python for last, python in _PYTHONS if series is not None and series <= last), "3.13")
    # n_features_in_ came in 0.24.
    width = "m.n_features_in_" if series is not None and series >= (0, 24) else "NUMBER_OF_COLUMNS"
    return (
        f'export it where it was made, with Python {python}: pip install "scikit-learn=={version}" skl2onnx joblib && '
        f"python -c \"import joblib, numpy, skl2onnx; m = joblib.load('{name}'); x = numpy.zeros((1, {width})); "
        "o = {'zipmap': False} if hasattr(m, 'classes_') else None; open('model.onnx', 'wb').write("
        'skl2onnx.to_onnx(m, x, options=o).SerializeToString())", then add model.onnx; '
        f"or fit it again with scikit-learn {installed_sklearn()}"
    )


def check_series(version: str) -> Series:
    """The series of a file's version. Raises LoadError for one that is not known: newer than here, or too old."""
    series, here = parse_series(version), parse_series(installed_sklearn())
    if series is None:
        raise LoadError(f"the file names scikit-learn {version[:40]!a}, which is no version")
    if here is not None and series > here:
        raise LoadError(
            f"{say_made_with(version)}, and what a newer one means is not known here; install scikit-learn {version}, "
            "or save the model as ONNX"
        )
    if series < OLDEST:
        raise LoadError(f"{say_made_with(version)}, and models before 0.20 are not supported")
    return series
