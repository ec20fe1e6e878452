"""Opcodes that hand over to a method of the machine, so that the machine and the recorder share one table."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

Step: TypeAlias = Callable[[Any], None]


def then(code: bytes, method: str) -> Step:
    """The standard opcode, and after it a method of the machine."""
    opcode = pickle._Unpickler.dispatch[code[0]]

    def step(machine: Any) -> None:
        opcode(machine)
        getattr(machine, method)()

    return step


def put_one(method: str, count: int) -> Step:
    """The step that puts the topmost `count` items into what lies below them."""

    def step(machine: Any) -> None:
        items = [machine.stack.pop() for _ in range(count)][::-1]
        getattr(machine, method)(machine.stack[-1], items)

    return step


def put_marked(method: str) -> Step:
    """The step that puts everything above the mark into what lies below it."""

    def step(machine: Any) -> None:
        items = machine.pop_mark()
        getattr(machine, method)(machine.stack[-1], items)

    return step


def only(method: str) -> Step:
    """The step that calls the machine's `method`."""
    return lambda machine: getattr(machine, method)()
