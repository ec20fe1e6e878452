"""How far a run has come: a small file beside the part file, replaced whole after each chunk."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from berth.errors import OperatorError

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Done:
    """The rows that are scored; `position` is the source's, the bytes are those of the part files that are good.

    `rows` counts those of other shards as well, which are `skipped`. `finished`: nothing is left but to put the part
    files in their places.
    """

    rows: int = 0
    failed: int = 0
    position: int = 0
    output_bytes: int = 0
    errors_bytes: int = 0
    finished: bool = False
    chunks: int = 0
    skipped: int = 0
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a shard wrote for one chunk of the input."""

    chunk: int
    rows: int
    output_bytes: int
    errors_bytes: int


@dataclass(frozen=True, slots=True)
class State:
    """What was begun, as facts by name, and how far it is.

    Shards keep their pieces too, which stand behind `head`, and their counts for drift: `drift` is their report.
    """

    facts: Mapping[str, Any]
    done: Done
    pieces: tuple[Piece, ...] = ()
    head: bytes = b""
    counts: tuple[int, ...] = ()
    drift: Mapping[str, Any] | None = None


def read_state(path: Path) -> State | None:
    """None where nothing was begun. Raises OperatorError for a file that is not ours."""
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != _SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        pieces = tuple(Piece(*row) for row in document.get("pieces", []))
        head = base64.b64decode(document.get("head", ""), validate=True)
        counts = tuple(map(int, document.get("counts", ())))
        return State(document["facts"], Done(**document["done"]), pieces, head, counts, document.get("drift"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise OperatorError(
            f"{path} does not say how far a run has come ({error}); remove it to begin again"
        ) from error


def write_state(path: Path, state: State) -> None:
    """Replace the file at once."""
    new = path.with_name(path.name + ".new")
    document: dict[str, Any] = {"schema": _SCHEMA, "facts": dict(state.facts), "done": asdict(state.done)}
    if state.head or state.pieces:
        document["head"] = base64.b64encode(state.head).decode()
        document["pieces"] = [[*asdict(piece).values()] for piece in state.pieces]
        document["counts"], document["drift"] = state.counts, state.drift
    with new.open("w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def check_facts(begun: Mapping[str, Any], now: Mapping[str, Any], part: Path) -> None:
    """That a run goes on with what it was begun with. Raises OperatorError naming what changed."""
    changed = [name for name in {**begun, **now} if begun.get(name) != now.get(name)]
    if changed:
        changes = "; ".join(f"{name} was {begun.get(name)!r} and is {now.get(name)!r}" for name in changed)
        raise OperatorError(
            f"{part} was begun with something else: {changes}. Put it back, or begin again with --overwrite"
        )
