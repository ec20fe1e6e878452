"""The next step for a file that uses names which are not allowed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from berth.errors import SettingsError
from berth.loaders.unpickle.allow import Name, library_of, parse_allow

_NONE = "save the model as skops or ONNX, or do not use it"


def _is_listable(item: str) -> bool:
    try:
        return item.isprintable() and len(parse_allow(item)) == 1
    except SettingsError:
        return False


def _advise_main(name: str) -> str:
    """For what a notebook or script defined itself: the file says only its name there."""
    return (
        f"{name} was defined in a notebook or script (__main__), which a server does not have; move it to a module, "
        f"such as own.py on PYTHONPATH, import it from there, fit and save again, and set BERTH_PICKLE_ALLOW=own:{name}"
    )


def advise_names(names: Sequence[Name], allow: Collection[Name]) -> str:
    """What to do about `names`, all those that a file uses and that are not allowed."""
    if local := [name for module, name in names if module == "__main__"]:
        return _advise_main("".join(char for char in local[0] if char.isprintable()))
    items = list(dict.fromkeys(library_of(pair) or ":".join(pair) for pair in names))
    if not names or any(pair in allow or not _is_listable(":".join(pair)) for pair in names):
        return _NONE
    if all(library_of(pair) for pair in names):
        return f"to allow the estimators of {' and '.join(items)}, set BERTH_PICKLE_ALLOW={','.join(items)}"
    return f"if these are your own classes, set BERTH_PICKLE_ALLOW={','.join(items)}; or save it as skops or ONNX"
