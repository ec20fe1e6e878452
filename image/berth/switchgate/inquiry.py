"""One run of the gate against the clock: asking again what may come true, and counting what must happen in a row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from berth.switchgate.asking import Caller, Line
from berth.switchgate.decide import Outcome, Patience, Verdict, goes_on, refuses
from berth.switchgate.heard import Addresses, Heard

Report = Callable[[str], None]
_ASK_SECONDS = 5.0
# Twice the resolver's usual wait for one server: a second DNS server may still respond when the first is silent.
_LOOK_UP_SECONDS = 10.0
_PREDICT_SECONDS = 35.0  # above the server's usual limit for a request, so that its own 504 is heard
_SHORT_SECONDS = 10.0
_LEAST_SECONDS = 0.05
# Misses that waiting does not excuse: a slot that fails every other time must not pass by luck.
_MOST_MISSES = 3


class Inquiry:
    """A deadline, a way to send requests, and somebody to inform. `pause` is the time between two tries."""

    def __init__(self, caller: Caller, timeout_seconds: float, report: Report, pause: float = 1.0) -> None:
        self._caller = caller
        self._deadline = time.monotonic() + timeout_seconds
        self._short = min(_SHORT_SECONDS, timeout_seconds / 4)
        self._report = report
        self._pause = pause

    def _left(self, most: float) -> float:
        return max(_LEAST_SECONDS, min(most, self._deadline - time.monotonic()))

    def _line(self, url: str, host: str = "") -> Line:
        """A fresh connection to a Service."""
        return self._caller.line(url, self._left(_LOOK_UP_SECONDS), host)

    def _waits(self, until: float) -> bool:
        """Pause, if there is time for another try before `until`."""
        if time.monotonic() + self._pause >= until:
            return False
        time.sleep(self._pause)
        return True

    def settle(self, rule: Callable[[], Verdict]) -> Verdict:
        """The rule's verdict, checked again for as long as it may still change."""
        short, told = time.monotonic() + self._short, ""
        while True:
            verdict = rule()
            until = {Patience.NONE: 0.0, Patience.SHORT: min(short, self._deadline), Patience.LONG: self._deadline}
            if not self._waits(until[verdict.patience]):
                if verdict.outcome is Outcome.GO_ON:
                    self._report(f"ok    {verdict.sentence}")
                return verdict
            if verdict.sentence != told:
                self._report(f"wait  {verdict.sentence}")
                told = verdict.sentence

    def settle_row(self, count: int, url: str, rule: Callable[[Line], Verdict], host: str = "") -> Verdict:
        """The rule without a miss `count` times in a row, each on a new connection; a miss starts the count again."""
        done = misses = 0
        while done < count:
            with self._line(url, host) as line:
                verdict = rule(line)
            if verdict.outcome is not Outcome.REFUSE:
                done += 1
                continue
            place = f"connection {done + 1} of {count}: {verdict.sentence}"
            misses += verdict.patience is Patience.SHORT
            if verdict.patience is Patience.NONE or misses >= _MOST_MISSES or not self._waits(self._deadline):
                return refuses(place)
            self._report(f"wait  {place}")
            done = 0
        verdict = goes_on(f"{count} of {count} connections in a row responded and predicted")
        self._report(f"ok    {verdict.sentence}")
        return verdict

    def get(self, url: str, path: str) -> Heard:
        """GET on a connection of its own."""
        with self._line(url) as line:
            return self.get_on(line, path)

    def get_on(self, line: Line, path: str) -> Heard:
        """GET on a connection that is there."""
        return line.ask("GET", path, None, self._left(_ASK_SECONDS))

    def predict_on(self, line: Line, body: dict[str, Any]) -> Heard:
        """A sample prediction on a connection that is there."""
        return line.ask("POST", "/predict", body, self._left(_PREDICT_SECONDS))

    def predict(self, url: str, body: dict[str, Any]) -> Heard:
        """A sample prediction on a connection of its own."""
        with self._line(url) as line:
            return self.predict_on(line, body)

    def get_pods(self, host: str, port: int, path: str) -> list[Heard]:
        """GET at each pod behind a headless name."""
        return [self.get(url, path) for url in self._caller.find_pods(host, port, self._left(_ASK_SECONDS))]

    def count(self, host: str) -> Addresses:
        """The pods behind a headless name."""
        return self._caller.count(host, self._left(_LOOK_UP_SECONDS))
