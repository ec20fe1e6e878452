"""What the gate learned from the outside: one request's response, or why there was none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Name(Enum):
    """Whether the host's name led anywhere."""

    KNOWN = "it resolved"
    UNKNOWN = "there is no such name"
    UNSURE = "unknown: DNS itself did not respond"


@dataclass(frozen=True, slots=True)
class Heard:
    """One request and what came back. `status` is 0 where nothing responded; then `fault` says why."""

    request: str
    name: Name = Name.KNOWN
    status: int = 0
    slot: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    fault: str = ""
    body: bytes = field(default=b"", repr=False)

    @property
    def told(self) -> str:
        """What came back, as a sentence goes on: after "GET … "."""
        if self.status == 0:
            return f"gave no response ({self.fault})"
        error = self.document.get("error")
        return f"returned {self.status}" + (f": {error[:300]}" if isinstance(error, str) else "")

    def word(self, key: str) -> str:
        """A string of the response; empty where it has none."""
        value = self.document.get(key)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The pods behind a headless name; `fault` where DNS itself failed."""

    host: str
    pods: int = 0
    fault: str = ""


def models_of(info: Heard) -> str:
    """The models that /info lists, as name@version; empty where it lists none."""
    models = info.document.get("models")
    listed = [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []
    return ", ".join(f"{model.get('name')}@{model.get('version')}" for model in listed[:5])


def slot_of(info: Heard) -> str:
    """The slot that responded: what /info says, else the header that is on every response, refusals included."""
    return info.word("slot") or info.slot


def find_examples(openapi: Heard) -> list[dict[str, Any]]:
    """One working body for POST /predict per loaded model, from an /openapi.json; the default model's first."""
    found: Any = openapi.document
    for step in ("paths", "/predict", "post", "requestBody", "content", "application/json", "examples"):
        found = found.get(step) if isinstance(found, dict) else None
    examples = found.values() if isinstance(found, dict) else ()
    bodies = [example.get("value") for example in examples if isinstance(example, dict)]
    return [body for body in bodies if isinstance(body, dict)]
