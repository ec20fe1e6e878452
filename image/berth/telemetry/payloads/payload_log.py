"""The payload log: sampled requests and responses, kept by a thread of its own so that no request waits for it.

A request hands over an PayloadEntry, which is raw bytes, and goes on. What does not fit into the queue is dropped and
counted. The writer thread starts with the first entry, after the fork; it decodes, hides and writes. At the end of
the process `close` gives it a bounded time to finish; whatever is lost is counted under a reason:

    full      the queue was full            write, send  the file or the address failed
    closed    the server ended              error        the line could not be made
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable

from berth.telemetry.logs import log
from berth.telemetry.payloads.payload_lines import Body, PayloadEntry, encode_line, trim
from berth.telemetry.payloads.payload_options import PayloadOptions, parse_options
from berth.telemetry.payloads.sinks import Sink, open_sink
from berth.telemetry.unhurried import with_rests

__all__ = ["Body", "PayloadEntry", "PayloadLog", "PayloadOptions", "is_sampled", "open_sink", "parse_options"]

# What waits in memory besides the count, and what is written at once.
_QUEUE_BYTES = 32 << 20
_BATCH_LINES = 100
_BATCH_BYTES = 1 << 20
_CLOSE_SECONDS = 5.0


def is_sampled(request_id: str, sample: float) -> bool:
    """Whether a request is in the sample: derived from its id, so that every worker and every hop says the same."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) < sample * 2**64


class PayloadLog:
    """A bounded queue and the thread that empties it into a sink. `on_drop(reason, lines)` counts what is lost."""

    def __init__(
        self, options: PayloadOptions, sink: Sink, on_drop: Callable[[str, int], None] = lambda reason, lines: None
    ) -> None:
        self._options = options
        self._sink = sink
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._queue: deque[PayloadEntry] = deque()
        self._queued_bytes = 0
        self._in_hand = 0
        self._thread: threading.Thread | None = None
        self._fault = ""

    @property
    def redacts(self) -> bool:
        """Whether some values must not be written anywhere."""
        return bool(self._options.redact)

    def offer(self, request_id: str, status: int, make: Callable[[], PayloadEntry]) -> None:
        """Keep an exchange if it is in the sample, or failed. Never waits, never raises."""
        failed = status >= 400 and self._options.keep_failures
        if not failed and not is_sampled(request_id, self._options.sample):
            return
        entry = trim(make(), self._options.max_bytes)
        if reason := self._put(entry):
            self._on_drop(reason, 1)

    def _put(self, entry: PayloadEntry) -> str:
        """Why the entry could not be queued; empty when it was."""
        with self._changed:
            if self._closed.is_set():
                return "closed"
            if len(self._queue) >= self._options.queue or self._queued_bytes + entry.size > _QUEUE_BYTES:
                return "full"
            self._queue.append(entry)
            self._queued_bytes += entry.size
            if len(self._queue) in (1, _BATCH_LINES):  # what the writer waits for
                self._changed.notify()
            return self._start()

    def _start(self) -> str:
        # A thread does not survive a fork: not alive is not only "never started".
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="payloads", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had; the next entry tries again
                self._queued_bytes -= self._queue.pop().size
                return "error"
            if self._thread is None:
                atexit.register(self.close)
            self._thread = thread
        return ""

    def _run(self) -> None:
        while batch := self._take():
            self._write(batch)

    def _take(self) -> list[PayloadEntry]:
        """The next entries; none when the log is closed and empty."""
        with self._changed:
            self._in_hand = 0
            self._changed.wait_for(lambda: self._queue or self._closed.is_set())
            self._changed.wait_for(lambda: len(self._queue) >= _BATCH_LINES or self._closed.is_set(), self._sink.linger)
            batch: list[PayloadEntry] = []
            size = 0
            while self._queue and len(batch) < _BATCH_LINES and size < _BATCH_BYTES:
                batch.append(self._queue.popleft())
                size += batch[-1].size
            self._queued_bytes -= size
            self._in_hand = len(batch)
        return batch

    def _write(self, batch: list[PayloadEntry]) -> None:
        lines = [line for entry in with_rests(batch) if (line := self._encode(entry))]
        lost, fault = self._sink.write(lines, self._closed.wait)
        if lost:
            self._on_drop(self._sink.reason, lost)
        if fault and fault != self._fault:
            log("payloads are being lost", level=logging.WARNING, error=fault)
        self._fault = fault

    def _encode(self, entry: PayloadEntry) -> bytes:
        try:
            return encode_line(entry, self._options.redact)
        except Exception as error:  # one odd body must not end the log
            log("a payload could not be written", level=logging.WARNING, error=type(error).__name__)
            self._on_drop("error", 1)
            return b""

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Write what is queued, for at most so long; the rest is counted as lost."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)
        with self._changed:
            left = len(self._queue) + (self._in_hand if self._thread is not None and self._thread.is_alive() else 0)
            self._queue.clear()
        if left:
            self._on_drop("closed", left)
