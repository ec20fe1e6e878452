"""Universal Binary JSON, as XGBoost writes it: only what a check of a model needs, bounded by the file's size."""

from __future__ import annotations

from typing import Any

import numpy as np

_MAX_DEPTH = 64
_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}


class _Reader:
    """One pass over the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError(f"{count} bytes are declared where {len(self.data) - self.at} are left")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def mark(self) -> str:
        return self.take(1).decode("latin-1")

    def number(self, mark: str) -> Any:
        dtype = np.dtype(_NUMBERS[mark])
        return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()

    def text(self) -> str:
        return self.take(int(self.number(self.mark()))).decode("utf-8", "replace")

    def value(self, depth: int) -> Any:
        """The next value. Raises ValueError, KeyError."""
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        mark = self.mark()
        while mark == "N":
            mark = self.mark()
        if mark in _NUMBERS:
            return self.number(mark)
        if mark == "S":
            return self.text()
        if mark in "TFZ":
            return {"T": True, "F": False, "Z": None}[mark]
        if mark == "C":
            return self.mark()
        if mark == "{":
            return self.object(depth)
        if mark == "[":
            return self.array(depth)
        raise ValueError(f"the mark {mark!r} is none of UBJSON")

    def object(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while self.data[self.at : self.at + 1] != b"}":
            key = self.text()
            if key in made:
                raise ValueError(f"the key {key[:40]!r} is there twice")
            made[key] = self.value(depth + 1)
        self.at += 1
        return made

    def array(self, depth: int) -> Any:
        if self.data[self.at : self.at + 1] == b"$":
            self.at += 1
            kind = self.mark()
            if self.mark() != "#":
                raise ValueError("an array of one type without a count")
            count = int(self.number(self.mark()))
            dtype = np.dtype(_NUMBERS[kind])
            return np.frombuffer(self.take(count * dtype.itemsize), dtype)
        if self.data[self.at : self.at + 1] == b"#":
            self.at += 1
            count = int(self.number(self.mark()))
            if not 0 <= count <= len(self.data) - self.at:
                raise ValueError(f"{count} values are declared where {len(self.data) - self.at} bytes are left")
            return [self.value(depth + 1) for _ in range(count)]
        made = []
        while self.data[self.at : self.at + 1] != b"]":
            made.append(self.value(depth + 1))
        self.at += 1
        return made


def decode_ubjson(data: bytes) -> Any:
    """The value in the bytes; arrays of one type as numpy arrays. Raises ValueError."""
    reader = _Reader(data)
    try:
        value = reader.value(0)
    except KeyError as error:
        raise ValueError(f"a number of the unknown type {error}") from error
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes follow its end")
    return value
