"""Which outputs a request wants, by the model's names or by those that clients of other servers use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from berth.errors import InvalidInput, UnknownOutput
from berth.tensors.schema import Specs, choose_outputs

# MLServer's scikit-learn, XGBoost and LightGBM runtimes name outputs as methods, KServe's servers and MLServer's
# other runtimes number them.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "predict": ("prediction",),
    "predict_proba": ("probabilities",),
    "transform": ("transformed",),
    "output-0": ("prediction", "transformed"),
    "output-1": ("prediction", "transformed"),
}
_WHOLE_ANSWER = ("predict", "output-0", "output-1")


def _find(name: str, specs: Specs) -> str:
    """The output that a name means; itself where it means none."""
    known = [spec.name for spec in specs]
    if name in known:
        return name
    if (found := next((alias for alias in _ALIASES.get(name, ()) if alias in known), None)) is not None:
        return found
    return known[0] if name in _WHOLE_ANSWER and len(known) == 1 else name


def name_outputs(wanted: Any, specs: Specs) -> dict[str, str]:
    """The model's output for each name that a request asks for, in the request's order.

    Raises UnknownOutput, InvalidInput.
    """
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        choose_outputs(wanted, specs)
    found = {name: _find(name, specs) for name in wanted}
    try:
        choose_outputs(list(found.values()), specs)
    except UnknownOutput:
        choose_outputs(wanted, specs)  # the message quotes what was sent
        raise
    if len(found) != len(wanted):
        raise InvalidInput(f"outputs lists one twice: {', '.join(map(repr, wanted))[:200]}")
    return found
