"""The process that has the model beside this one, for messages on which the model may crash; both of its ends.

    this process   one line of JSON for each batch, to its standard input
    that process   a line once the model is loaded, then one for each batch, to its standard output; whatever a library
                   prints goes to the standard error, as logs do

It has room for `memory_bytes` more, dies with this process, and is the first to go where memory runs out.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from berth.consuming.broker_messages import Message, MessageOutcome
from berth.errors import OperatorError
from berth.serving.confinement import end_with_parent, limit_memory
from berth.telemetry.logs import log

_LOAD_SECONDS = 600.0
_PIECE = 1 << 16
_READY = b"ready\n"
Answer = Callable[[Sequence[Message]], list[MessageOutcome]]


class AnsweringProcessDied(Exception):
    """It did not survive a batch; the text says of what."""


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1")


def _encode_message(message: Message) -> list[Any]:
    headers = [(name, _text(value)) for name, value in message.headers]
    return [_text(message.value), _text(message.key), message.timestamp_ms, headers, message.position]


def _decode_message(document: Sequence[Any]) -> Message:
    value, key, timestamp, headers, position = document
    kept = tuple((name, text.encode("latin-1")) for name, text in headers)
    return Message(_bytes(value), _bytes(key), timestamp, kept, tuple(position))


def _explain(status: int) -> str:
    if status == -signal.SIGKILL:
        return "the model's process was killed on this message, probably because memory ran out"
    if status < 0:
        return f"the model crashed with {signal.Signals(-status).name} on this message"
    return f"the model ended its process with exit code {status} on this message"


class AnsweringProcess:
    """Starts the process when it is needed. `command` is the program, `seconds` what one batch may take."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], seconds: float) -> None:
        self._command, self._environ, self._seconds = list(command), dict(environ), seconds
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Have it run, with its model loaded. Raises OperatorError where it does not come up."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [*self._command, str(os.getpid())],
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the consumer, which finishes its batch
        )
        try:
            if self._read_line(_LOAD_SECONDS) != _READY:
                raise AnsweringProcessDied("it printed something else")
        except AnsweringProcessDied as error:
            raise OperatorError(f"no process beside this one can load the model: {error}") from error

    def _running(self) -> Any:
        """The process. Raises AnsweringProcessDied."""
        if self._process is None:
            raise AnsweringProcessDied("it does not run")
        return self._process

    def answer(self, messages: Sequence[Message]) -> list[MessageOutcome]:
        """What becomes of each message. Raises AnsweringProcessDied, and the next `start` is a new process."""
        process = self._running()
        with suppress(BrokenPipeError):  # `_read_line` says of what it died
            process.stdin.write(json.dumps(list(map(_encode_message, messages))).encode() + b"\n")
            process.stdin.flush()
        found = json.loads(self._read_line(self._seconds))
        return [MessageOutcome(result, _decode_message(message)) for result, message in found]

    def _read_line(self, seconds: float) -> bytes:
        process, line, deadline = self._running(), b"", time.monotonic() + seconds
        pipe = process.stdout.fileno()
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], max(deadline - time.monotonic(), 0.0))[0]:
                self.stop()
                raise AnsweringProcessDied(f"the model did not end within {seconds:.0f} s on this message")
            if not (piece := os.read(pipe, _PIECE)):
                status = process.wait()
                self.stop()
                raise AnsweringProcessDied(_explain(status))
            line += piece
        return line

    def stop(self) -> None:
        """End it."""
        if (process := self._process) is None:
            return
        self._process = None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not written has no reader any more
                    pipe.close()


def take_pipes(parent: int, memory_bytes: int | None) -> tuple[BinaryIO, BinaryIO]:
    """That process's first step: its limits, and where it reads and writes; libraries print to the standard error."""
    end_with_parent(parent)
    limit_memory(memory_bytes)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, replies


def serve_pipes(asked: BinaryIO, replies: BinaryIO, answer: Answer) -> None:
    """That process's loop, until the other one closes the pipe."""
    replies.write(_READY)
    replies.flush()
    log("this process predicts for suspect messages")
    for line in asked:
        outcomes = answer(list(map(_decode_message, json.loads(line))))
        found = [(outcome.result, _encode_message(outcome.message)) for outcome in outcomes]
        replies.write(json.dumps(found).encode() + b"\n")
        replies.flush()
