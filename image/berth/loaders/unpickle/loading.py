"""The one door for pickle and joblib files: what is not on the list is neither imported nor called.

Restricted means: no code of the file's choosing runs while it loads, and none that it names is called by the library
afterwards but a function that belongs there, with arguments that are known to be harmless (called.py); a prediction
opens no file that a request names and allocates nothing out of proportion (behaviour.py); a file that is made to be
slow to load is refused (hashing.py). It does not mean that a model is good: its numbers are the file's, so a stranger's
model may still predict wrongly.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.legacy.made_with import is_foreign, parse_series, say_export, say_made_with
from berth.loaders.unpickle.advice import advise_names
from berth.loaders.unpickle.allow import Name, default_allow, parse_allow
from berth.loaders.unpickle.machine import Machine
from berth.loaders.unpickle.native_states import check_native_states
from berth.loaders.unpickle.recorder import GlobalRecorder, PickleGlobal
from berth.loaders.unpickle.stream import PickleStream, open_source

__all__ = [
    "PickleGlobal",
    "default_allow",
    "explain_version",
    "judge_pickle",
    "load_joblib",
    "load_pickle",
    "parse_allow",
    "read_globals",
    "read_version",
]

_T = TypeVar("_T")


def load_pickle(path: Path, allow: frozenset[Name]) -> object:
    """The object in a pickle file, joblib's layout and compression included. Raises UnsafeArtifact, LoadError."""
    try:
        loaded = _run(path, lambda source: Machine(source, allow).run())
    except UnsafeArtifact as refusal:
        raise UnsafeArtifact(_explain(path, allow, refusal.message)) from refusal
    except LoadError as error:
        raise LoadError(explain_version(path, error.message)) from error
    check_numbers(path, loaded)
    return loaded


def check_numbers(path: Path, loaded: object) -> None:
    """Raise UnsafeArtifact if the file gives compiled code numbers that would crash it."""
    try:
        check_native_states(loaded)
    except UnsafeArtifact as refusal:
        raise UnsafeArtifact(
            f"{path.name} is not loaded: it holds {_printable(refusal.message)}; "
            "the file is damaged or forged, get it again from where the model was trained"
        ) from refusal


# joblib writes plain pickles where there is no array, and people name its files .pkl, so there is one reader.
load_joblib = load_pickle


def read_globals(path: Path, allow: frozenset[Name]) -> list[PickleGlobal]:
    """Every global that a file names, in its order, without loading anything. Raises LoadError."""

    def record(source: PickleStream) -> list[PickleGlobal]:
        recorder = GlobalRecorder(source, allow)
        recorder.run()
        return recorder.globals()

    return _run(path, record)


def judge_pickle(path: Path, allow: frozenset[Name]) -> tuple[list[PickleGlobal], str | None]:
    """The globals that a file names, and why it is not loaded, None if it is.

    The loader itself decides: a file of which every name is allowed is loaded once and dropped, because what it does
    with those names shows only then. A file with another name is not; of it nothing is imported. Raises LoadError.
    """
    names = read_globals(path, allow)
    if not all(found.allowed for found in names):
        return names, f"{path.name} is not loaded: it uses names that are not allowed"
    try:
        load_pickle(path, allow)
    except (UnsafeArtifact, LoadError) as refusal:
        return names, refusal.message
    return names, None


def read_version(path: Path) -> str | None:
    """The scikit-learn that made a file: the oldest that its states name; None where none does, or it is damaged."""

    def record(source: PickleStream) -> set[str]:
        recorder = GlobalRecorder(source, frozenset())
        recorder.run()
        return recorder.versions

    try:
        named = _run(path, record)
    except (LoadError, UnsafeArtifact):
        return None
    known = [version for version in named if parse_series(version) is not None]
    return min(known, key=lambda version: (parse_series(version), version), default=None)


def explain_version(path: Path, message: str) -> str:
    """A message about a file, which begins with the scikit-learn that made it where that is another, and ends so."""
    version = read_version(path)
    if version is None or not is_foreign(version):
        return message
    made = say_made_with(version)
    problem = message.removeprefix(f"{path.name}: ").removeprefix(made).lstrip(",; ")
    return f"{path.name} was {made}: {problem}; {say_export(path.name, version)}"


def _run(path: Path, read: Callable[[PickleStream], _T]) -> _T:
    try:
        with open_source(path) as source:
            result = read(source)
            source.check_end()
            return result
    except UnsafeArtifact:
        raise
    except LoadError as error:
        raise LoadError(error.message if path.name in error.message else f"{path.name}: {error.message}") from error
    except EOFError as error:
        raise LoadError(
            f"{path.name} is truncated or damaged: it ends before its data does; copy or save it again"
        ) from error
    except (pickle.UnpicklingError, KeyError, IndexError) as error:
        raise LoadError(f"{path.name} is not a whole pickle or joblib file: {_brief(error)}") from error
    except Exception as error:  # a damaged state makes scikit-learn, numpy and scipy raise whatever they like
        raise LoadError(f"{path.name} cannot be loaded: {_brief(error)}") from error


def _brief(error: BaseException) -> str:
    return _printable(f"{type(error).__name__}: {error}")


def _printable(text: str) -> str:
    """A text that the file had a hand in, fit for one line of a log."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:300])


def _explain(path: Path, allow: frozenset[Name], refused: str) -> str:
    """All the names at once, so that they are not allowed one start at a time."""
    try:
        names = [(item.module, item.name) for item in read_globals(path, allow) if not item.allowed]
    except (LoadError, UnsafeArtifact):
        names = []
    known = [f"{module}:{name}" if module else name for module, name in names]
    listed = ", ".join(_printable(item) for item in [refused, *(item for item in known if item not in refused)])
    advice = advise_names(names, allow)
    version = read_version(path)
    made = f"{path.name} was {say_made_with(version)}; it" if version and is_foreign(version) else path.name
    if made != path.name and all(module.startswith(("sklearn.", "numpy.", "scipy.")) for module, _ in names):
        advice = say_export(path.name, str(version))
    return f"{made} is not loaded: it uses {listed}, which is not allowed; {advice}"
