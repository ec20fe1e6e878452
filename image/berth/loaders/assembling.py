"""A file that holds several parts, as notebooks save them: a dict or a tuple of a vectorizer, a scaler, a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from berth.errors import LoadError


def _parts_of(made: Any) -> dict[str, Any] | None:
    """The fitted parts of a container by their key or place; None where the file holds a model itself."""
    if isinstance(made, Mapping):
        items = [(str(key), part) for key, part in made.items()]
    elif isinstance(made, (list, tuple)):
        items = [(str(at), part) for at, part in enumerate(made)]
    else:
        return None
    return {key: part for key, part in items if hasattr(part, "predict") or hasattr(part, "transform")}


def _explain(made: Any, parts: Mapping[str, Any]) -> str:
    kind = type(made).__name__
    if not parts:
        return f"the file holds a {kind} without any fitted model in it; save the fitted model itself"
    ordered = sorted(parts, key=lambda key: hasattr(parts[key], "predict"))
    named = ", ".join(f"{key} ({type(parts[key]).__name__})" for key in ordered)
    return (
        f"the file holds a {kind} of several parts: {named}; name those to apply, in order: --steps {','.join(ordered)}"
    )


def assemble(made: Any, steps: Sequence[str]) -> Any:
    """The model in a file: what it holds, or the pipeline of its parts that `steps` name. Raises LoadError."""
    parts = _parts_of(made)
    if parts is None:
        if steps:
            raise LoadError(f"the file holds a {type(made).__name__} and no parts to choose from; leave --steps out")
        return made
    if not steps:
        raise LoadError(_explain(made, parts))
    if unknown := [step for step in steps if step not in parts]:
        raise LoadError(f"--steps names {unknown[0]!r}; {_explain(made, parts)}")
    if len(steps) == 1:
        return parts[steps[0]]
    from sklearn.pipeline import Pipeline

    return Pipeline([(step.replace("__", "_"), parts[step]) for step in steps])
