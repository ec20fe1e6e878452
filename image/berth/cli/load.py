"""Load for `berth bench`: connections that stay open, each with one request under way, and what came back.

One thread a connection. Each thread fills a tally of its own, so that nothing is locked while requests are timed; the
tallies are added up when every thread has ended.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

_LONGEST_WAIT_SECONDS = 1.0
_SHOWN_BYTES = 300


@dataclass(frozen=True, slots=True)
class Request:
    """What every connection sends again and again."""

    url: str
    body: bytes
    headers: dict[str, str]
    timeout_seconds: float = 30.0


@dataclass(slots=True)
class Tally:
    """What came back: how long the good responses took, how many of each status, what broke, one body of each error."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    said: dict[int, str] = field(default_factory=dict)

    @property
    def refused(self) -> int:
        """Responses that say to come back later: overload that is handled, no fault."""
        return self.statuses[HTTPStatus.TOO_MANY_REQUESTS]

    @property
    def failed(self) -> int:
        """Responses that are neither good nor a refusal, and requests without a response."""
        wrong = sum(count for status, count in self.statuses.items() if status >= HTTPStatus.MULTIPLE_CHOICES)
        return wrong - self.refused + sum(self.broken.values())

    def add(self, other: Tally) -> None:
        """Count what another connection saw as well."""
        self.seconds += other.seconds
        self.statuses += other.statuses
        self.broken += other.broken
        self.said = other.said | self.said


def quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of numbers in order; NaN of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def connect(url: str, timeout: float) -> HTTPConnection:
    """A connection to the URL's host, which opens at its first request."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout)


def path_of(url: str) -> str:
    """What a request line says of a URL."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _pause(answer: HTTPResponse, left: float) -> None:
    """Wait as long as a refusal demands, within reason."""
    asked = answer.headers.get("Retry-After", "")
    seconds = float(asked) if asked.isdecimal() else _LONGEST_WAIT_SECONDS
    time.sleep(max(0.0, min(seconds, left, _LONGEST_WAIT_SECONDS)))


def _repeat(request: Request, deadline: float, tally: Tally) -> None:
    connection, path = connect(request.url, request.timeout_seconds), path_of(request.url)
    while (began := time.monotonic()) < deadline:
        try:
            connection.request("POST", path, request.body, request.headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException) as error:
            connection.close()  # opens again at the next request
            tally.broken[str(error) or type(error).__name__] += 1
            time.sleep(0.01)
            continue
        tally.statuses[answer.status] += 1
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            tally.seconds.append(time.monotonic() - began)
            continue
        tally.said.setdefault(answer.status, body[:_SHOWN_BYTES].decode(errors="replace"))
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            _pause(answer, deadline - time.monotonic())
    connection.close()


class Load:
    """A number of connections at work until a deadline; `finish` waits for them and adds up."""

    def __init__(self, request: Request, connections: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._tallies = [Tally() for _ in range(connections)]
        self._threads = [
            threading.Thread(target=_repeat, args=(request, deadline, tally), daemon=True) for tally in self._tallies
        ]
        for thread in self._threads:
            thread.start()

    def answered(self) -> int:
        """How many responses there are so far."""
        return sum(len(tally.seconds) for tally in self._tallies)

    def finish(self) -> Tally:
        """What all connections saw, the times in order."""
        total = Tally()
        for thread, tally in zip(self._threads, self._tallies, strict=True):
            thread.join()
            total.add(tally)
        total.seconds.sort()
        return total
