"""Parameters that only fitting reads: what a file names of them becomes an object that holds and does nothing.

A search keeps the distributions that it drew from, and a pipeline the cache of its fitting. `predict` reads neither,
and neither could be loaded: scipy.stats runs text of its state as code, and joblib's Memory reads and writes files.
"""

from __future__ import annotations

from typing import Any, ClassVar

from berth.errors import UnsafeArtifact
from berth.loaders.unpickle.allow import Name

GETATTR: Name = ("builtins", "getattr")

_MODULES = ("scipy.stats.", "joblib.memory.", "joblib._store_backends.", "joblib.logger.")
_NAMES = frozenset({("joblib", "Memory"), ("numpy", "vectorize")})


class Unread:
    """Stands for an object that predictions never use; any use of it is an AttributeError."""

    pair: ClassVar[Name] = ("", "")

    def __init__(self, *arguments: object, **named: object) -> None:
        """Keeps nothing of what it is made of."""

    def __new__(cls, *arguments: object, **named: object) -> Any:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Keeps nothing of what it was."""


def is_unread(pair: Name) -> bool:
    """Whether a name belongs to what only fitting reads."""
    return pair in _NAMES or f"{pair[0]}.".startswith(_MODULES)


def unread_class(pair: Name) -> type[Unread]:
    """The class that stands for a name."""
    return type(pair[1], (Unread,), {"pair": pair})


def get_unread(*arguments: object) -> Unread:
    """What `getattr` gives of such an object, as pickles spell its methods; of any other it is refused."""
    if not arguments or not isinstance(arguments[0], Unread):
        raise UnsafeArtifact("builtins:getattr")
    return unread_class(arguments[0].pair)()
