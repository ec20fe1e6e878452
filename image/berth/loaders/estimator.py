"""scikit-learn estimators, and what looks like them, from joblib, pickle and skops files."""

from __future__ import annotations

import pickle
import platform
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.artifacts import example_of
from berth.loaders.assembling import assemble
from berth.loaders.boosters import is_booster, serve_booster
from berth.loaders.estimator_outputs import describe_outputs, make_answerer
from berth.loaders.fitted import check_fitted, drop_feature_names, is_sklearn_only, reset_jobs
from berth.loaders.formats import LoadOptions
from berth.loaders.held_parts import check_parts
from berth.loaders.legacy.made_with import is_foreign, say_made_with
from berth.loaders.legacy.upgrade import upgrade_fitted
from berth.loaders.recognition import check_is
from berth.loaders.signature import describe_inputs, example_row, guessed_columns, needs_frame, table_builder
from berth.loaders.unpickle import loading as unpickle
from berth.models.manifest import Manifest
from berth.models.model import Loaded
from berth.tensors.arrays import Array, Tensors, TensorSpec

_LIBRARIES = ("scikit-learn", "numpy", "scipy", "joblib")

# What reading a damaged or foreign file raises. The caller reports a missing module.
_BROKEN = (
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)

# HistGradientBoosting with categories holds partial(check_array, …), SplineTransformer a spline and its asarray.
_SKOPS_TRUSTED = frozenset(
    {
        "functools.partial",
        "numpy.dtype",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn.utils.validation.check_array",
    }
)

# `warnings.catch_warnings` swaps process-wide state: one load at a time may use it.
_catching = threading.Lock()


def installed_versions() -> dict[str, str]:
    """The versions of what an estimator is made of, as they are installed here."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _watch_versions(read: Callable[[], Any]) -> tuple[Any, dict[str, str]]:
    """What `read` returns, and the versions it was made with: scikit-learn reports its own by a warning."""
    from sklearn.exceptions import InconsistentVersionWarning

    with _catching, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        made = read()
    versions = installed_versions()
    for warning in caught:
        if isinstance(warning.message, InconsistentVersionWarning):
            versions["scikit-learn"] = warning.message.original_sklearn_version
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return made, versions


def _read_pickle(path: Path, options: LoadOptions) -> Any:
    """What pickle or joblib wrote: people call the files of either by the other's name, so there is one reader."""
    return unpickle.load_pickle(path, unpickle.default_allow() | frozenset(options.pickle_allow))


def _trusts(dotted: str) -> bool:
    """Whether a skops file may name this beyond what skops itself trusts.

    Not all that a pickle may name: skops calls whatever is named, so `numpy.memmap` would open a file.
    """
    module, _, name = dotted.rpartition(".")
    if dotted in _SKOPS_TRUSTED:
        return True
    return module.startswith("sklearn.") and (module, name) in unpickle.default_allow() and _is_class(module, name)


def _is_class(module: str, name: str) -> bool:
    return isinstance(getattr(import_module(module), name, None), type)


def _read_skops(path: Path, options: LoadOptions) -> Any:
    from skops import io

    own = {f"{module}.{name}" for module, name in options.pickle_allow}
    named = io.get_untrusted_types(file=path)
    if refused := [dotted for dotted in named if dotted not in own and not _trusts(dotted)]:
        raise UnsafeArtifact(
            f"{path.name} names {', '.join(refused)}, which may not be loaded; "
            "if they are yours, add them to BERTH_PICKLE_ALLOW as package.module:Name"
        )
    estimator = io.load(path, trusted=named)
    check_parts(estimator, options.pickle_allow)
    unpickle.check_numbers(path, estimator)
    return estimator


def read_estimator(path: Path, format_: str, options: LoadOptions) -> tuple[Any, dict[str, str]]:
    """The estimator in a file as it was saved, and the versions it was made with.

    Raises UnsafeArtifact, LoadError, and ModuleNotFoundError for a library that is not installed.
    """
    if options.pickle == "off" and format_ != "skops":
        raise UnsafeArtifact(f"{path.name} is a {format_} file and BERTH_PICKLE=off refuses those; save it as skops")
    check_is(path, format_)
    try:
        read = _read_skops if format_ == "skops" else _read_pickle
        estimator, versions = _watch_versions(lambda: read(path, options))
    except ModuleNotFoundError:
        raise
    except _BROKEN as error:
        raise LoadError(f"{path.name} cannot be read as {format_}: {type(error).__name__}: {error}") from error
    if format_ == "skops" and is_foreign(versions["scikit-learn"]):
        upgrade_fitted(estimator, versions["scikit-learn"])
    return estimator, versions


def serve_estimator(
    estimator: Any, inputs: Sequence[TensorSpec], built_with: dict[str, str], example: Tensors | None = None
) -> Loaded:
    """A fitted estimator as a model. It is changed: one job, and no feature names where it can do without.

    `inputs` are those of the manifest; without any, those that the estimator knows. `example` is a row that it is
    known to accept. Raises LoadError.
    """
    check_fitted(estimator)
    reset_jobs(estimator)
    described, guessed = describe_inputs(estimator), guessed_columns(estimator)
    served = tuple(inputs) or described
    build = table_builder(estimator, served)
    if is_sklearn_only(estimator) and not needs_frame(estimator):
        drop_feature_names(estimator)
    row = build(example or example_row(estimator, served)) if served else None
    outputs = describe_outputs(estimator, row)
    answer = make_answerer(estimator, outputs)

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        return answer(build(tensors), wanted)

    return Loaded(predict, described, tuple(output.spec for output in outputs), built_with, estimator, guessed=guessed)


def _check_answers(loaded: Loaded, row: Tensors) -> None:
    """Try one row on a model of another scikit-learn: where something is missing in it, that is an AttributeError."""
    if not row:
        return
    try:
        loaded.predict(row, [spec.name for spec in loaded.outputs])
    except (ArithmeticError, LookupError, ValueError):
        return  # it does not like the row, which proves nothing


def load_estimator(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """The estimator that joblib, pickle or skops wrote, through the restricted loader of its format.

    Raises UnsafeArtifact, LoadError.
    """
    names = manifest.artifacts
    if len(names) != 1:
        raise LoadError(f"the format {manifest.format} is one file, but model.json names {', '.join(names) or 'none'}")
    path = directory / names[0]
    estimator, versions = read_estimator(path, manifest.format, options)
    if is_booster(estimator):
        return serve_booster(estimator, names[0], manifest, options.cpu_threads)
    estimator, example = assemble(estimator, manifest.steps), example_of(manifest)
    if not is_foreign(versions.get("scikit-learn")):
        return serve_estimator(estimator, manifest.inputs, versions, example)
    try:
        loaded = serve_estimator(estimator, manifest.inputs, versions, example)
        _check_answers(loaded, example_row(estimator, loaded.inputs) if loaded.inputs else {})
    except (AttributeError, NotImplementedError, TypeError) as error:
        problem = f"it does not predict here: {error}"
        if manifest.format == "skops":
            raise LoadError(f"{path.name} was {say_made_with(versions['scikit-learn'])}: {problem}") from error
        raise LoadError(unpickle.explain_version(path, problem)) from error
    return loaded
