"""The names that a pickle may use: the generated list, and the user's own from BERTH_PICKLE_ALLOW."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TypeAlias

from berth.errors import SettingsError

# (module, qualified name), compared exactly: "a.b:C.d" allows that dotted name and neither a.b:C nor a.b:C.e.
Name: TypeAlias = tuple[str, str]

_PART = r"[^\W\d]\w*"
_FORM = re.compile(rf"({_PART}(?:\.{_PART})*):({_PART}(?:\.{_PART})*)")
_CALL_MARK = "()"

# Whoever may name these may run anything, so no setting opens them.
# fmt: off
NEVER = frozenset((
    "__builtin__", "__main__", "_ctypes", "_frozen_importlib", "_frozen_importlib_external", "_io", "_pickle",
    "_posixsubprocess", "_socket", "_thread", "asyncio", "atexit", "bdb", "builtins", "cloudpickle", "code",
    "codeop", "commands", "concurrent", "cProfile", "copyreg", "ctypes", "dill", "distutils", "doctest", "ensurepip",
    "faulthandler", "ftplib", "functools", "gc", "glob", "http", "imp", "importlib", "inspect", "io", "joblib",
    "linecache", "logging", "marshal", "multiprocessing", "nt", "operator", "os", "pathlib", "pdb", "pickle", "pip",
    "pkg_resources", "pkgutil", "platform", "popen2", "posix", "posixpath", "profile", "pty", "pydoc", "runpy",
    "setuptools", "shelve", "shutil", "signal", "site", "smtplib", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "sys", "tempfile", "test", "threading", "timeit", "trace", "tracemalloc", "types", "unittest",
    "urllib", "venv", "webbrowser", "weakref", "xmlrpc", "zipapp", "zipfile", "zipimport",
))
# fmt: on


# Inside the libraries of models, these run text as code (scipy.stats does, of its state), or read and write files.
NEVER_INSIDE = (
    "numpy.ctypeslib", "numpy.distutils", "numpy.f2py", "numpy.lib", "numpy.testing", "pandas.io", "scipy.datasets",
    "scipy.io", "scipy.stats", "sklearn.datasets", "sklearn.externals", "sklearn.utils._testing", "torch.hub",
)  # fmt: skip


def is_never(module: str) -> bool:
    """Whether a module is one that no setting may open."""
    return module.split(".")[0] in NEVER or f"{module}.".startswith(tuple(f"{inside}." for inside in NEVER_INSIDE))


@cache
def _words() -> dict[str, list[Name]]:
    """The estimators of known libraries, by the library's name, from data/pickle_libraries.txt."""
    text = files("berth").joinpath("data/pickle_libraries.txt").read_text(encoding="utf-8")
    words: dict[str, list[Name]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            module, _, name = line.partition(":")
            words.setdefault(module.split(".")[0], []).append((module, name))
    return words


def library_of(name: Name) -> str | None:
    """The word that allows a name of a known library."""
    word = name[0].split(".")[0]
    return word if name in _words().get(word, ()) else None


def parse_allow(text: str) -> tuple[Name, ...]:
    """The pairs of `package.module:Name,package.module:Other`; a known library's name stands for its estimators.

    Raises SettingsError.
    """
    names = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        if item in _words():
            names += _words()[item]
            continue
        match = _FORM.fullmatch(item)
        if match is None:
            raise SettingsError(f"BERTH_PICKLE_ALLOW: {item!r} is not package.module:Name")
        module, name = match.groups()
        if is_never(module):
            raise SettingsError(
                f"BERTH_PICKLE_ALLOW: {item!r} would let a file run anything; list only classes of your own packages"
            )
        names.append((module, name))
    return tuple(dict.fromkeys(names))


@cache
def _listed() -> dict[Name, bool]:
    """Every pair of the generated list, and whether a file may also call it."""
    text = files("berth").joinpath("data/pickle_allow.txt").read_text(encoding="utf-8")
    listed = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            module, _, name = line.removesuffix(_CALL_MARK).partition(":")
            listed[module, name] = line.endswith(_CALL_MARK)
    return listed


@cache
def default_allow() -> frozenset[Name]:
    """The pairs that scikit-learn, numpy and scipy estimators need, from data/pickle_allow.txt."""
    return frozenset(_listed())


def may_call(name: Name) -> bool:
    """Whether an allowed name may be called by the file, and not only referred to.

    A file refers to numpy.log1p as a value; it has no reason to call it. What the user listed may be called.
    """
    return _listed().get(name, True)
