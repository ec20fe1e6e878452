"""What the V1 and MLflow forms share: rows or columns in, one prediction a row or whole outputs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from berth.errors import InvalidInput
from berth.tensors.arrays import Array


def check_keys(document: Mapping[str, Any], forms: tuple[str, ...], more: tuple[str, ...]) -> str:
    """The one key of `forms` that a body has; besides it only those of `more` may be there. Raises InvalidInput."""
    if unknown := sorted(set(document) - set(forms) - set(more)):
        raise InvalidInput(f"unknown key {unknown[0][:60]!r}; this route accepts {', '.join(forms + more)}")
    given = [form for form in forms if form in document]
    if len(given) != 1:
        raise InvalidInput(f"send exactly one of {', '.join(forms)}, got {', '.join(given) or 'none'}")
    return given[0]


def by_row(outputs: Mapping[str, Array], wanted: Sequence[str]) -> Any:
    """One element a row: the value of the only output, or an object with a value of each."""
    if len(wanted) == 1:
        return outputs[wanted[0]]
    columns = [outputs[name].tolist() for name in wanted]
    return [dict(zip(wanted, row, strict=True)) for row in zip(*columns, strict=True)]


def by_output(outputs: Mapping[str, Array], wanted: Sequence[str]) -> Any:
    """Whole outputs: the only one, or an object with each by its name."""
    return outputs[wanted[0]] if len(wanted) == 1 else {name: outputs[name] for name in wanted}
