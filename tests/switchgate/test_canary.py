"""The comparison of a canary with the live slot: exact where it can be, and as often right as it claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from berth.switchgate.analysing import decide_canary
from berth.switchgate.canary_plan import CanaryLimits, CanaryPlan
from berth.switchgate.canary_verdict import conclude, draw_table
from berth.switchgate.decide import Outcome, Patience
from berth.switchgate.heard import Heard
from berth.switchgate.proportions import chance_of_more, interpolate_quantile
from berth.switchgate.slot_comparison import Finding, compare_slots
from berth.switchgate.slot_traffic import PodCounters, SlotTraffic, sum_traffic
from berth.telemetry.metrics.buckets import SECONDS
from berth.telemetry.metrics.metrics_text import parse_samples
from berth.telemetry.metrics.registry import Metrics

PLAN = CanaryPlan(
    release="iris",
    live_slot="blue",
    live_host="iris-berth-blue-pods.shop.svc",
    canary_host="iris-berth-green-pods.shop.svc",
    fingerprint="cc03860f492d",
    namespace="-n shop ",
)
LIMITS = CanaryLimits(max_drift=1.0)
# A busy machine is no failure.
UNTIMED = settings(deadline=None)


def bucketed(seconds: Sequence[float] | np.ndarray) -> tuple[int, ...]:
    """Durations by bucket, as the histogram has them."""
    counts, _ = np.histogram(seconds, [0.0, *SECONDS, math.inf])
    return tuple(counts.tolist())


def traffic(slot: str, requests: int = 5000, failed: int = 0, rejected: int = 0, **more: object) -> SlotTraffic:
    """Requests of 3 to 4 ms, whose predictions are of three classes alike."""
    found = {"durations": bucketed(np.linspace(0.003, 0.004, max(requests, 1))[:requests]), "pods": 1, "ready": 1}
    found["predictions"] = {"iris": {str(label): requests // 3 for label in range(3)}}
    return SlotTraffic(slot, requests, failed, rejected, **found | more)  # type: ignore[arg-type]


def failures(live: SlotTraffic, canary: SlotTraffic, limits: CanaryLimits = LIMITS) -> list[str]:
    """The names of the figures that fail."""
    return [figure.name for figure in compare_slots(live, canary, limits) if figure.finding is Finding.FAILED]


@UNTIMED
@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_the_chance_is_that_of_the_exact_test(count: int, other: int, data: st.DataObject) -> None:
    hits, other_hits = data.draw(st.integers(0, count)), data.draw(st.integers(0, other))
    urn = hypergeom(count + other, hits + other_hits, count)
    assert chance_of_more(hits, count, other_hits, other) == pytest.approx(urn.sf(hits) + urn.pmf(hits) / 2, abs=1e-9)


def test_the_chance_of_millions_is_found_at_once() -> None:
    assert 0.4 < chance_of_more(20_000, 2_000_000, 20_000, 2_000_000) < 0.6
    assert chance_of_more(21_000, 2_000_000, 20_000, 2_000_000) < 1e-6


@UNTIMED
@given(st.lists(st.integers(0, 1000), min_size=len(SECONDS) + 1, max_size=len(SECONDS) + 1).filter(any))
def test_a_quantile_lies_in_its_bucket_and_grows_with_its_share(counts: list[int]) -> None:
    found = [interpolate_quantile(counts, SECONDS, share) for share in (0.1, 0.5, 0.9, 0.99)]
    assert found == sorted(found)  # type: ignore[type-var]
    assert all(value is not None and 0 < value <= SECONDS[-1] for value in found)
    values = np.repeat([*SECONDS, math.inf], counts)  # each at the end of its bucket
    at_most = min(float(np.quantile(values, 0.99, method="inverted_cdf")), SECONDS[-1])
    assert found[-1] is not None
    assert found[-1] <= at_most * (1 + 1e-9)


@pytest.mark.parametrize(
    ("canary", "fails"),
    [
        (traffic("green", 500), []),
        (traffic("green", 500, failed=10), ["errors"]),
        (traffic("green", 500, failed=2), []),  # 0.4 % is within the limit
        (traffic("green", 100, failed=50), ["errors"]),  # too few to pass, not too few to fail
        (traffic("green", 20, failed=1), []),  # one error condemns nobody
        (traffic("green", 500, rejected=20), ["rejected"]),
        (traffic("green", 500, restarts=1), ["restarts"]),
        (traffic("green", 500, ready=0), ["restarts"]),
        (traffic("green", 500, durations=bucketed(np.full(500, 0.009))), ["p99"]),
        (traffic("green", 500, durations=bucketed([0.003] * 492 + [0.02] * 8)), []),  # 1.6 % beside 0.8 %: chance
        (traffic("green", 500, durations=bucketed([0.003] * 450 + [0.02] * 50)), ["p99"]),
        (traffic("green", 500, durations=bucketed(np.full(500, 0.0005))), []),
        (traffic("green", 500, predictions={"iris": {"0": 400, "1": 50, "2": 50}}), ["psi of iris"]),
        (traffic("green", 500, predictions={"other": {"0": 400, "1": 50, "2": 50}}), ["psi of other"]),
        (traffic("green", 500, predictions={"iris": {"0": 180, "1": 160, "2": 160}}), []),
        (traffic("green", 90, durations=bucketed(np.full(90, 9.0)), predictions={"iris": {"0": 90}}), []),
    ],
)  # fmt: skip
def test_what_fails_a_canary(canary: SlotTraffic, fails: list[str]) -> None:
    live = traffic("blue", rejected=5, durations=bucketed([0.003] * 4925 + [0.004] * 35 + [0.02] * 40))
    assert failures(live, canary) == fails


def test_limits_of_0_judge_nothing_and_are_shown() -> None:
    canary = traffic("green", durations=bucketed(np.full(5000, 9.0)), predictions={"iris": {"0": 5000}})
    figures = compare_slots(traffic("blue"), canary, CanaryLimits(max_latency_ratio=0))
    shown = {figure.name: figure for figure in figures}
    assert [shown[name].finding for name in ("p99", "psi of iris")] == [Finding.UNJUDGED] * 2
    assert [shown[name].limit for name in ("p99", "psi of iris")] == ["none"] * 2
    assert shown["p99"].difference.startswith("x2")
    assert conclude(figures, PLAN).outcome is Outcome.PASS


SHARES = st.floats(0, 1)


@UNTIMED
@given(st.integers(0, 3000), st.integers(0, 3000), SHARES, SHARES, st.integers(0, 3000))
def test_more_errors_never_look_better(live: int, canary: int, before: float, now: float, more: int) -> None:
    first, second = traffic("blue", live, int(live * before)), traffic("green", canary, int(canary * now))
    worse = replace(second, failed=min(second.failed + more, canary))
    assert {"errors"} & set(failures(first, second)) <= set(failures(first, worse))


@UNTIMED
@given(st.integers(1, 3000), SHARES, SHARES)
def test_slots_that_are_alike_pass(requests: int, failed: float, rejected: float) -> None:
    both = traffic("blue", requests, int(requests * failed / 2), int(requests * rejected / 2))
    assert failures(both, replace(both, slot="green")) == []


def test_the_table_has_both_slots_and_the_last_line_the_reason_and_the_way_back() -> None:
    figures = compare_slots(traffic("blue", 4512), traffic("green", 480, failed=10), LIMITS)
    lines = draw_table(figures, PLAN)
    assert lines[0].split() == ["blue", "(live)", "green", "(canary)", "difference", "limit", "verdict"]
    assert [line.split()[0] for line in lines[1:]] == ["requests", "errors", "rejected", "restarts", "p99", "psi"]
    assert lines[1].split() == ["requests", "4512", "480", "at", "least", "500", "too", "few"]
    assert lines[2].split() == ["errors", "0.00%", "(0)", "2.08%", "(10)", "+2.08%", "+0.50%", "FAILED"]
    verdict = conclude(figures, PLAN)
    assert verdict.outcome is Outcome.REFUSE
    assert "\n" not in verdict.sentence
    assert "errors are 2.08% of its requests and 0.00% of the live slot's" in verdict.sentence
    assert "`helm rollback iris -n shop`" in verdict.sentence
    assert "--rollback-on-failure" in verdict.sentence


def test_too_little_traffic_is_inconclusive_and_says_how_much_there_was() -> None:
    figures = compare_slots(traffic("blue", 499), traffic("green", 12), LIMITS)
    assert {figure.finding for figure in figures[4:]} == {Finding.UNJUDGED}
    verdict = conclude(figures, PLAN)
    assert verdict.outcome is Outcome.REFUSE
    for words in ("inconclusive after 120 s", "slot green had 12 requests and slot blue had 499", "is 500"):
        assert words in verdict.sentence
    verdict = conclude(figures, replace(PLAN, inconclusive="pass"))
    assert verdict.outcome is Outcome.PASS
    assert "canary.analysis.inconclusive is pass" in verdict.sentence


def info(fingerprint: str = PLAN.fingerprint, status: int = 200) -> Heard:
    return Heard("GET http://10.0.0.1:8000/info", status=status, document={"fingerprint": fingerprint})


@pytest.mark.parametrize(
    ("infos", "words"),
    [([], "no pod that is ready"), ([info(), info("0" * 12)], "runs fingerprint 000"), ([info(status=503)], "503")],
)
def test_only_pods_of_this_upgrade_are_judged(infos: list[Heard], words: str) -> None:
    verdict = decide_canary(infos, PLAN)
    assert (verdict.outcome, verdict.patience) == (Outcome.REFUSE, Patience.LONG)
    assert words in verdict.sentence
    assert "in an upgrade of its own" in verdict.sentence
    assert decide_canary([info(), info()], PLAN).outcome is Outcome.GO_ON


class Pod:
    """A server's metrics, which a restart begins anew."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Count from 0 again."""
        self._metrics = Metrics("green")
        self._metrics.bind("iris", "2", [0, 1]).begin_counters(["predict"])

    def serve(self, statuses: Sequence[int]) -> None:
        """Requests that end so, a millisecond each, and predict 1."""
        bound = self._metrics.bind("iris", "2")
        for status in statuses:
            bound.observe_request("predict", status, 0.001)
            bound.count_predictions([1])

    def read(self) -> Mapping[tuple[str, tuple[tuple[str, str], ...]], float]:
        """What the analysis reads of it."""
        names = {"berth_requests_total", "berth_request_duration_seconds_bucket", "berth_predictions_total"}
        return parse_samples(self._metrics.render().decode(), names)


EVENTS = st.lists(st.tuples(st.integers(0, 2), st.one_of(st.just("restart"), st.sampled_from([200, 400, 429, 500]))))


@settings(max_examples=25, deadline=None)
@given(EVENTS, EVENTS)
def test_the_sum_over_pods_is_what_they_served_whenever_they_were_read(
    before: list[tuple[int, str | int]], after: list[tuple[int, str | int]]
) -> None:
    pods = [Pod() for _ in range(3)]
    for at, event in before:
        if isinstance(event, int):
            pods[at].serve([event])
    counters = [PodCounters(pod.read()) for pod in pods]
    restarts = 0
    for at, event in after:
        if isinstance(event, int):
            pods[at].serve([event])
        else:
            # Only what had been counted is missed: a server that was idle until then restarts unseen.
            restarts += any(pods[at].read().values())
            pods[at].restart()
        counters[at].advance(pods[at].read())
    found = sum_traffic("green", counters, 3)
    served = [event for _, event in after if isinstance(event, int)]
    assert found.requests == sum(found.durations) == len(served)
    assert found.failed == sum(status in (429, 500) for status in served)
    assert found.rejected == served.count(400)
    assert found.predictions.get("iris", {}) == ({"1": len(served)} if served else {})
    assert (found.pods, found.restarts) == (3, restarts)


def test_numbers_are_compared_by_their_buckets() -> None:
    def read(values: Sequence[float]) -> SlotTraffic:
        metrics = Metrics("green")
        first = PodCounters({})
        metrics.bind("rents", "1").observe_values(values)
        first.advance(parse_samples(metrics.render().decode(), {"berth_prediction_value_bucket"}))
        return sum_traffic("green", [first], 1)

    before, now = read([5.0] * 300 + [50.0] * 300), read([50.0] * 500)
    assert before.predictions == {"rents": {"up to 10": 300, "up to 100": 300}}
    many = {"requests": 600, "durations": bucketed([0.003] * 600)}
    assert failures(replace(before, **many), replace(now, **many)) == ["psi of rents"]  # type: ignore[arg-type]


def simulate(
    generator: np.random.Generator, requests: int, error_rate: float, latency: float = 1.0, slot: str = "blue"
) -> SlotTraffic:
    """Requests with a heavy tail of durations (log-normal, median 3 ms), of which so many fail."""
    seconds = np.exp(generator.normal(math.log(0.003 * latency), 0.6, requests))
    classes = generator.multinomial(requests, [0.5, 0.3, 0.15, 0.05])
    predictions = {"iris": {str(label): int(rows) for label, rows in enumerate(classes)}}
    failed = int(generator.binomial(requests, error_rate))
    return SlotTraffic(slot, requests, failed, 0, bucketed(seconds), predictions, 2, 2)


def rate_of_failure(seed: int, live: int, canary: int, rate: tuple[float, float], latency: float = 1.0) -> float:
    """How many of 1,000 canaries fail; `rate` is of errors, of the live slot and of the canary."""
    generator = np.random.default_rng(seed)
    runs = 1000
    failed = sum(
        bool(failures(simulate(generator, live, rate[0]), simulate(generator, canary, rate[1], latency, "green")))
        for _ in range(runs)
    )
    return failed / runs


@pytest.mark.slow
@pytest.mark.parametrize(("live", "canary"), [(9500, 500), (500, 500), (5000, 5000)])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_a_healthy_canary_fails_in_at_most_one_of_a_hundred_times(live: int, canary: int, rate: float) -> None:
    assert rate_of_failure(17, live, canary, (rate, rate)) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("live", "canary", "power"), [(9500, 500, 0.99), (4500, 500, 0.98), (500, 500, 0.8), (1000, 1000, 0.99)]
)
def test_two_percent_of_errors_are_found(live: int, canary: int, power: float) -> None:
    assert rate_of_failure(18, live, canary, (0.0, 0.02)) >= power


@pytest.mark.slow
def test_a_tail_that_is_twice_as_long_is_found() -> None:
    assert rate_of_failure(19, 9500, 1000, (0.0, 0.0), latency=2.0) >= 0.99
