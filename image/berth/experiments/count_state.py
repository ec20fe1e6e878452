"""The counts of all workers and pods, each kept under its source: merging takes the higher, so nothing counts twice.

A source is one worker of one pod since one start, and its counts only grow (a grow-only counter: M. Shapiro et al., "A
comprehensive study of convergent and commutative replicated data types", INRIA 7506, 2011). States may be merged in any
order, any number of times; what a dead pod had counted is in those that heard of it.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from berth.experiments.arm_counts import (
    CELLS,
    DAY_SECONDS,
    SUFFIX,
    VALUES,
    WIDTH,
    ArmKey,
    decode_key,
    read_counts,
)

MOST_SOURCES = 10_000
_RELATIVE_FADES = {"faded_rewards", "faded_sum", "faded_squares"}
_FADED_AT = [at for at, name in enumerate(VALUES) if name in _RELATIVE_FADES]


@dataclass(frozen=True)
class CountState:
    """Values by source (its name ends in @START) and encoded key; cells by encoded key."""

    sources: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    cells: Mapping[str, bytes] = field(default_factory=dict)


def read_folder(folder: Path) -> CountState:
    """What this pod's workers have counted, dead ones included."""
    sources: dict[str, dict[str, tuple[float, ...]]] = {}
    cells: dict[str, bytes] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        arms = sources.setdefault(path.name.removesuffix(SUFFIX), {})
        for key, values, bits in read_counts(path):
            arms[key] = values
            cells[key] = join_cells(cells.get(key), bits)
    return CountState(sources, cells)


def join_cells(one: bytes | None, other: bytes) -> bytes:
    """The cells that are set in either; the units of both."""
    if not one:
        return other
    return (int.from_bytes(one) | int.from_bytes(other)).to_bytes(len(other))


def merge_states(one: CountState, other: CountState) -> CountState:
    """What either of two states knows."""
    sources = {name: dict(arms) for name, arms in one.sources.items()}
    for name, arms in other.sources.items():
        known = sources.setdefault(name, {})
        for key, values in arms.items():
            known[key] = tuple(map(max, known[key], values)) if key in known else values
    cells = dict(one.cells)
    for key, bits in other.cells.items():
        cells[key] = join_cells(cells.get(key), bits)
    return CountState(sources, cells)


def encode_state(state: CountState) -> dict[str, Any]:
    """A state as JSON."""
    return {
        "values": list(VALUES),
        "sources": {name: {key: list(values) for key, values in arms.items()} for name, arms in state.sources.items()},
        "cells": {key: base64.b64encode(zlib.compress(bits)).decode() for key, bits in state.cells.items()},
    }


def _decode_values(values: Any) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if len(found) != WIDTH or not all(map(math.isfinite, found)):
        raise ValueError("not the values of this version")
    return found


def _decode_cells(text: str) -> bytes:
    bits = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), CELLS // 8 + 1)
    if len(bits) != CELLS // 8:
        raise ValueError("not the cells of this version")
    return bits


def decode_state(document: Any) -> CountState:
    """The state of `encode_state`. Raises ValueError for anything else: it comes from another machine."""
    try:
        if document["values"] != list(VALUES) or len(document["sources"]) > MOST_SOURCES:
            raise ValueError("not a state of this version")
        sources = {
            str(name): {decode_key(key).encode(): _decode_values(values) for key, values in arms.items()}
            for name, arms in document["sources"].items()
        }
        for name in sources:
            float(name.rpartition("@")[2])
        cells = {decode_key(key).encode(): _decode_cells(text) for key, text in document["cells"].items()}
    except (KeyError, TypeError, AttributeError, binascii.Error, zlib.error, OverflowError) as error:
        raise ValueError(f"not a state: {error!r}") from error
    return CountState(sources, cells)


def _fade(values: tuple[float, ...], key: ArmKey, start: float, now: float) -> list[float]:
    """Values with the faded ones as they are worth now."""
    found = list(values)
    if key.half_life_days:
        weight = 2.0 ** (-(now - start) / (key.half_life_days * DAY_SECONDS))
        for at in _FADED_AT:
            found[at] *= weight
    return found


def sum_arms(state: CountState, now: float) -> dict[ArmKey, tuple[float, ...]]:
    """The values of each key over all sources; the order in which sources were heard of makes no difference."""
    parts: dict[str, list[list[float]]] = {}
    for name in sorted(state.sources):
        start = float(name.rpartition("@")[2])
        for text, values in state.sources[name].items():
            parts.setdefault(text, []).append(_fade(values, decode_key(text), start, now))
    return {decode_key(text): tuple(map(math.fsum, zip(*listed, strict=True))) for text, listed in parts.items()}


def count_cells(bits: bytes) -> int:
    """How many cells are set."""
    return int.from_bytes(bits).bit_count()
