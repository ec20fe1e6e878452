"""Why an estimator is not accelerated, and which of its steps is the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """One step that has no exact accelerated model."""

    step: str
    reason: str

    def __str__(self) -> str:
        return f"{self.step}: {self.reason}"


def one_line(error: BaseException, most: int = 200) -> str:
    """An error's first sentence, as a reason can hold it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else text[: most - 1] + "…"


def step_name(name: str, part: Any) -> str:
    """A step as people find it in their pipeline: its name there and its class."""
    kind = type(part).__name__
    return f"{name} ({kind})" if name else kind
