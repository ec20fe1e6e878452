"""A small assembler for pickles that do what no pickler would write."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Builder: TypeAlias = Callable[[Path], object]


def marker(path: Path) -> Path:
    """The file that appears if the payload of `path` has run."""
    return path.with_name(path.name + ".ran")


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def stacked(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def call(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


def command(path: Path) -> str:
    return f"touch '{marker(path)}'"


def code(path: Path) -> str:
    return f"open({str(marker(path))!r}, 'w').close()"


def system(path: Path) -> bytes:
    return call(named("posix", "system"), text(command(path)))


def whole(body: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


class Payload:
    """Pickles as a call of os.system."""

    def __init__(self, path: Path) -> None:
        self.command = command(path)

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)
