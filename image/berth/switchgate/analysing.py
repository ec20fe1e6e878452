"""The analysis of a canary: reads the pods of both slots for a while, and compares slot with slot.

Which pods there are is looked up again at every look: a new one counts from its first look on, and one that has left
its Service is read for as long as it responds, then keeps its last figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from berth.switchgate.asking import Caller
from berth.switchgate.canary_plan import CanaryPlan
from berth.switchgate.canary_verdict import conclude, draw_table
from berth.switchgate.decide import Outcome, Patience, Verdict, goes_on, refuses
from berth.switchgate.heard import Heard
from berth.switchgate.inquiry import Inquiry
from berth.switchgate.slot_comparison import EARLY_LEVEL, Finding, compare_errors, compare_slots
from berth.switchgate.slot_traffic import COUNTED, PodCounters, SlotTraffic, sum_traffic
from berth.telemetry.metrics.metrics_text import Samples, parse_samples

Report = Callable[[str], None]
_ASK_SECONDS = 5.0
_READERS = 16
# Between two looks; fewer than a dozen looks would find restarts and faults too late.
_LONGEST_PAUSE, _LOOKS = 5.0, 12
# Before "no pod is ready" is believed.
_LAST_LOOKS = 3


def decide_canary(infos: Sequence[Heard], plan: CanaryPlan) -> Verdict:
    """Every pod of the canary is of this revision before the time begins, or another model would be judged."""
    slot = plan.canary_slot
    stage = f"stage it first, wait until it is ready, then set canary.weight in an upgrade of its own; {plan.way_back}"
    if not infos:
        return refuses(
            f"{plan.canary_host} has no pod that is ready, so slot {slot} has no canary: {stage}", Patience.LONG
        )
    for info in infos:
        found = info.word("fingerprint")
        if info.status != 200:
            return refuses(f"a pod of slot {slot} {info.told} at {info.request}: {stage}", Patience.LONG)
        if found != plan.fingerprint:
            return refuses(
                f"a pod of slot {slot} runs fingerprint {found or '(none)'}, but this upgrade gives it "
                f"{plan.fingerprint}: {stage}",
                Patience.LONG,
            )
    return goes_on(f"all {len(infos)} pods of slot {slot} are of this upgrade")


class SlotWatch:
    """The pods of one slot, read again and again."""

    def __init__(self, slot: str, host: str, port: int, caller: Caller) -> None:
        self._slot, self._host, self._port, self._caller = slot, host, port, caller
        self._pods: dict[str, PodCounters] = {}
        self._ready = 0
        self.fault = f"{host} has no pod that is ready"

    def _read(self, url: str) -> Samples | None:
        """A pod's counters; None where it does not say them, with the fault kept."""
        with self._caller.line(url, _ASK_SECONDS) as line:
            heard = line.ask("GET", "/metrics", None, _ASK_SECONDS)
        try:
            samples = parse_samples(heard.body.decode(), COUNTED) if heard.status == 200 else None
        except ValueError as error:
            self.fault = f"{heard.request} returned no metrics ({error})"
            return None
        if samples is None:
            hint = ": name a key that is good for it in gate.apiKeySecret.name" if heard.status in (401, 403) else ""
            self.fault = f"{heard.request} {heard.told}{hint}"
        return samples

    def look(self, readers: ThreadPoolExecutor) -> None:
        """Read every pod once."""
        listed = self._caller.find_pods(self._host, self._port, _ASK_SECONDS)
        urls = list(dict.fromkeys([*listed, *self._pods]))
        self._ready = 0
        for url, samples in zip(urls, readers.map(self._read, urls), strict=True):
            if samples is None:
                continue
            self._ready += url in listed
            if url in self._pods:
                self._pods[url].advance(samples)
            else:
                self._pods[url] = PodCounters(samples)

    @property
    def traffic(self) -> SlotTraffic:
        """What has been counted so far."""
        return sum_traffic(self._slot, list(self._pods.values()), self._ready)


class CanaryAnalysis:
    """One analysis. `pause` is the time between two looks, None for a twelfth of the whole."""

    def __init__(self, plan: CanaryPlan, caller: Caller, report: Report, pause: float | None = None) -> None:
        self._plan, self._report = plan, report
        self._pause = pause or min(_LONGEST_PAUSE, plan.seconds / _LOOKS)
        self._live = SlotWatch(plan.live_slot, plan.live_host, plan.pod_port, caller)
        self._canary = SlotWatch(plan.canary_slot, plan.canary_host, plan.pod_port, caller)

    def _look(self, readers: ThreadPoolExecutor) -> None:
        for watch in (self._live, self._canary):
            watch.look(readers)

    def _is_hopeless(self) -> bool:
        """Errors that no later request can excuse. Without a ready pod for a moment, as DNS may say, it is not."""
        canary = replace(self._canary.traffic, ready=1)
        figures = compare_errors(self._live.traffic, canary, self._plan.limits, EARLY_LEVEL)
        return any(figure.finding is Finding.FAILED for figure in figures)

    def _watch(self) -> float:
        """Look until the time is up, or the canary is hopeless: the seconds that it took."""
        began = time.monotonic()
        until = began + self._plan.seconds
        with ThreadPoolExecutor(_READERS) as readers:
            self._look(readers)
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(self._pause, left))
                self._look(readers)
                if self._is_hopeless():
                    break
            for _ in range(_LAST_LOOKS):
                if self._canary.traffic.ready:
                    break
                time.sleep(self._pause)
                self._look(readers)
        return time.monotonic() - began

    def run(self) -> Verdict:
        """PASS or REFUSE, with the table reported."""
        took = self._watch()
        live, canary = self._live.traffic, self._canary.traffic
        for watch, traffic in ((self._live, live), (self._canary, canary)):
            if not traffic.pods:
                return refuses(f"slot {traffic.slot} cannot be read: {watch.fault}; {self._plan.way_back}")
        figures = compare_slots(live, canary, self._plan.limits)
        self._report(f"{took:.0f} s of {live.pods} and {canary.pods} pods")
        for line in draw_table(figures, self._plan):
            self._report(line)
        return conclude(figures, self._plan)


def analyse_canary(plan: CanaryPlan, caller: Caller, inquiry: Inquiry, report: Report) -> Verdict:
    """Whether the canary is as good as the live slot: PASS or REFUSE, with the reason."""
    verdict = inquiry.settle(lambda: decide_canary(inquiry.get_pods(plan.canary_host, plan.pod_port, "/info"), plan))
    return verdict if verdict.outcome is Outcome.REFUSE else CanaryAnalysis(plan, caller, report).run()
