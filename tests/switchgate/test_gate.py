"""The gate's rules over what was heard, case by case, and the example that a document gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.switchgate.decide import (
    Outcome,
    Patience,
    Verdict,
    alike,
    decide_active,
    decide_examples,
    decide_other_mode,
    decide_ready,
    decide_reference,
    decide_sample,
    decide_target,
    decide_traffic,
)
from berth.switchgate.drifting import decide_drift
from berth.switchgate.heard import Addresses, Heard, Name, find_examples
from berth.switchgate.plan import SwitchPlan
from berth.switchgate.unready import explain_unready

PLAN = SwitchPlan(
    release="iris",
    active_url="http://iris-berth.shop.svc:80",
    target_url="http://iris-berth-green.shop.svc:80",
    target_slot="green",
    fingerprint="cc03860f492d",
    headless_host="iris-berth-green-pods.shop.svc",
    other_mode="serve",
    min_ready=2,
)
STAGE = (
    "helm upgrade iris CHART -n shop --reset-then-reuse-values "
    "--set slots.green.mode=serve --set slots.green.model.version=…"
)
SWITCH = "helm upgrade iris CHART -n shop --reset-then-reuse-values --set activeSlot=green"
PASS, GO_ON, REFUSE = Outcome.PASS, Outcome.GO_ON, Outcome.REFUSE
NONE, SHORT, LONG = Patience.NONE, Patience.SHORT, Patience.LONG


def info(slot: str = "green", fingerprint: str = PLAN.fingerprint, status: int = 200, **more: Any) -> Heard:
    """What a slot's /info brings."""
    document = {"slot": slot, "fingerprint": fingerprint, "models": [{"name": "iris", "version": "2"}]}
    return Heard("GET /info", status=status, slot=slot, document=document if status == 200 else more)


def silent(fault: str = "Connection refused") -> Heard:
    """A name that is there, and nobody behind it."""
    return Heard("GET /info", fault=fault)


def unknown(name: Name = Name.UNKNOWN) -> Heard:
    """A name that led nowhere."""
    return Heard("GET /info", name, fault="Name or service not known")


def predicted(value: Any = 0, status: int = 200, seconds: float = 0.004, slot: str = "green", **more: Any) -> Heard:
    """What /predict brings."""
    document = {"prediction": [value], "model": "iris", "version": "2"} if status == 200 else more
    return Heard("POST /predict", status=status, slot=slot, document=document, seconds=seconds)


def check(verdict: Verdict, outcome: Outcome, patience: Patience, *words: str) -> None:
    """The verdict's three parts; the sentence is one line and holds the words."""
    assert (verdict.outcome, verdict.patience) == (outcome, patience), verdict.sentence
    assert "\n" not in verdict.sentence
    for word in words:
        assert word in verdict.sentence


@pytest.mark.parametrize(
    ("heard", "bootstrap", "outcome", "patience", "words"),
    [
        (unknown(), "allow", PASS, NONE, ["does not resolve", "first install"]),
        (unknown(), "refuse", REFUSE, NONE, ["does not resolve", "--set gate.bootstrap=allow"]),
        # A resolver that is down says nothing about the name: that is no first install.
        (unknown(Name.UNSURE), "allow", REFUSE, LONG, ["DNS did not respond", "restore cluster DNS"]),
        (silent(), "allow", GO_ON, SHORT, ["outage", "Connection refused", "judged alone"]),
        (Heard("GET /info", status=503), "allow", GO_ON, SHORT, ["outage", "returned 503"]),
        (info("blue", status=503, error="x"), "allow", GO_ON, NONE, ["slot blue is live"]),
        (info("green"), "refuse", PASS, NONE, ["slot green is live already", "not a switch"]),
        (info("green", "000000000000"), "allow", PASS, NONE, ["not a switch"]),
        (info("blue"), "allow", GO_ON, NONE, ["slot blue is live", "switches to green"]),
        # The header on a refusal tells the slot to who has no key.
        (info("blue", status=401, error="no key"), "allow", GO_ON, NONE, ["slot blue is live"]),
        (Heard("GET /info", status=401), "allow", REFUSE, NONE, ["returned 401", "gate.apiKeySecret.name"]),
        (Heard("GET /info", status=404), "allow", REFUSE, SHORT, ["names no slot", "describe service", "--no-hooks"]),
        (Heard("GET /info", status=200, document={"slot": 3}), "allow", REFUSE, SHORT, ["names no slot"]),
    ],
)
def test_the_active_service(
    heard: Heard, bootstrap: str, outcome: Outcome, patience: Patience, words: list[str]
) -> None:
    check(decide_active(heard, replace(PLAN, bootstrap=bootstrap)), outcome, patience, *words)


@pytest.mark.parametrize("mode", ["standby", "absent"])
def test_the_slot_that_traffic_leaves_must_stay(mode: str) -> None:
    retire = f"helm upgrade iris CHART -n shop --reset-then-reuse-values --set slots.blue.mode={mode}"
    verdict = decide_other_mode(replace(PLAN, other_mode=mode))
    check(verdict, REFUSE, NONE, f"slots.blue.mode is {mode}", f"switch first ({SWITCH} ", f"({retire})")
    check(decide_other_mode(PLAN), GO_ON, NONE)
    to_blue = replace(PLAN, target_slot="blue", other_mode=mode)
    check(decide_other_mode(to_blue), REFUSE, NONE, f"slots.green.mode is {mode}", "--set activeSlot=blue")


@pytest.mark.parametrize(
    ("heard", "outcome", "patience", "words"),
    [
        (info(), GO_ON, NONE, ["slot green runs fingerprint cc03860f492d: iris@2"]),
        (info(fingerprint="00000000aaaa"), REFUSE, SHORT, ["runs fingerprint 00000000aaaa (iris@2)", STAGE, SWITCH]),
        (info(fingerprint=""), REFUSE, SHORT, ["fingerprint (none)", "stage first", "then switch"]),
        (silent(), REFUSE, LONG, ["slot green gave no response (Connection refused)", STAGE, SWITCH]),
        (Heard("GET /info", status=503), REFUSE, LONG, ["returned 503", STAGE, SWITCH]),
        (unknown(), REFUSE, NONE, [STAGE, SWITCH]),
        (unknown(Name.UNSURE), REFUSE, LONG, ["DNS did not respond"]),
        (info("blue"), REFUSE, NONE, ["leads to slot blue instead of green", "kubectl -n shop get endpointslices"]),
        (info(status=403, error="not yours"), REFUSE, NONE, ["returned 403: not yours", "gate.apiKeySecret.name"]),
    ],
)
def test_the_target_must_run_what_this_revision_renders(
    heard: Heard, outcome: Outcome, patience: Patience, words: list[str]
) -> None:
    check(decide_target(heard, PLAN), outcome, patience, *words)


def health(**states: tuple[str, str]) -> Heard:
    """What a pod's /health brings."""
    models = {f"{name}@1": {"state": state, "reason": reason} for name, (state, reason) in states.items()}
    return Heard("GET /health", status=503, document={"models": models})


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ([], ""),
        ([health(a=("loading", "")), silent()], ""),
        (
            [health(a=("failed", "not signed"), b=("ready", "")), health(a=("failed", "not signed"))],
            "a model of slot green cannot be loaded: a@1: not signed (2 of 2 pods)",
        ),
        (
            [health(a=("failed", "not signed"), b=("failed", "no room")), silent()],
            "a model of slot green cannot be loaded: a@1: not signed (1 of 2 pods); b@1: no room (1 of 2 pods)",
        ),
        (
            [silent()],
            "the pods of slot green do not respond yet: read their log with `kubectl -n shop logs "
            "-l berth.dev/slot=green --all-containers`",
        ),
        ([Heard("GET /health", status=503, document={"models": ["a"]})], ""),
        ([Heard("GET /health", status=503, document={"models": {"a@1": "failed"}})], ""),
    ],
)
def test_why_a_slot_is_not_ready(pods: list[Heard], reason: str) -> None:
    assert explain_unready(pods, PLAN) == reason


def test_in_an_outage_a_repair_is_told_the_way_past_the_gate() -> None:
    check(decide_target(silent(), PLAN, outage=True), REFUSE, LONG, STAGE, SWITCH, "repair", "--no-hooks")
    assert "--no-hooks" not in decide_target(silent(), PLAN).sentence


@pytest.mark.parametrize(
    ("readyz", "addresses", "outcome", "patience", "words"),
    [
        (200, Addresses("pods", 2), GO_ON, NONE, ["2 pods, 2 wanted"]),
        (200, Addresses("pods", 1), REFUSE, LONG, ["has 1 ready pods behind pods", "gate.minReady wants 2", "kubectl"]),
        (200, Addresses("pods", 0, "Try again"), REFUSE, LONG, ["DNS did not respond for pods (Try again)"]),
        (503, Addresses("pods", 2), REFUSE, LONG, ["not ready", "returned 503: loading: 1 of 2", "kubectl -n shop"]),
        (0, Addresses("pods", 2), REFUSE, LONG, ["not ready", "gave no response"]),
    ],
)
def test_readiness(readyz: int, addresses: Addresses, outcome: Outcome, patience: Patience, words: list[str]) -> None:
    heard = Heard("GET /readyz", status=readyz, document={"error": "loading: 1 of 2"} if readyz == 503 else {})
    check(decide_ready(heard, addresses, PLAN), outcome, patience, *words)


@pytest.mark.parametrize(
    ("answer", "outcome", "patience", "words"),
    [
        (predicted(), GO_ON, NONE, ["slot green predicted in 4.0 ms"]),
        (predicted(seconds=0.3), REFUSE, SHORT, ["took 300 ms", "gate.maxLatencyMs allows 200"]),
        (predicted(seconds=0.2), GO_ON, NONE, []),
        (predicted(status=500, error="broke"), REFUSE, SHORT, ["returned 500: broke", "log"]),
        (predicted(status=503, error="loading"), REFUSE, LONG, ["returned 503: loading"]),
        (predicted(status=429), REFUSE, LONG, ["returned 429"]),
        (predicted(status=0), REFUSE, LONG, ["gave no response"]),
        (predicted(status=400, error="got 3, want 4"), REFUSE, NONE, ["returned 400: got 3, want 4", "gate.request"]),
        (predicted(status=401), REFUSE, NONE, ["gate.apiKeySecret.name"]),
        (predicted(status=302), REFUSE, SHORT, ["returned 302"]),
        (replace(predicted(), document={}), REFUSE, SHORT, ["without a JSON object"]),
        (predicted(slot="blue"), REFUSE, LONG, ["from slot blue instead of green"]),
        (predicted(slot=""), GO_ON, NONE, []),  # a mesh may take headers away
    ],
)
def test_a_sample_prediction(answer: Heard, outcome: Outcome, patience: Patience, words: list[str]) -> None:
    check(decide_sample(answer, "green", 200), outcome, patience, *words)


def test_agreement_looks_at_the_answer_and_not_at_the_version() -> None:
    live = replace(predicted(), document={"prediction": [0], "model": "iris", "version": "1"}, slot="blue")
    check(decide_sample(predicted(), "green", None, live), GO_ON, NONE)
    verdict = decide_sample(predicted(2), "green", None, live)
    check(verdict, REFUSE, NONE, "returns {'prediction': [2]} where the live slot returns {'prediction': [0]}")
    assert "gate.requireAgreement=false" in verdict.sentence


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([0.1 + 0.2], [0.3], True),
        ([1.0], [1.00001], False),
        ([1e12], [1e12 + 1], True),
        ([1], [1.0], True),
        ([1], [2], False),
        ([True], [1], False),
        ([1.0], [True], False),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        ([None], [None], True),
        ([None], [0.0], False),
        ([[1.0], [2.0]], [[1.0]], False),
        ({"a": [1.0]}, {"a": [1.0], "b": [2]}, False),
        ({"a": [1.0]}, [1.0], False),
    ],
)
def test_alike(one: Any, other: Any, same: bool) -> None:
    assert alike(one, other) is same
    assert alike(other, one) is same


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_anything_is_like_itself(value: Any) -> None:
    assert alike(value, value)


@pytest.mark.parametrize(
    ("status", "outcome", "patience"), [(200, GO_ON, NONE), (0, REFUSE, LONG), (503, REFUSE, LONG), (400, REFUSE, NONE)]
)
def test_the_live_slots_answer(status: int, outcome: Outcome, patience: Patience) -> None:
    check(decide_reference(predicted(status=status, error="x")), outcome, patience)


@pytest.mark.parametrize(
    ("heard", "outcome", "patience", "words"),
    [
        (info(), GO_ON, NONE, []),
        (info("blue"), REFUSE, LONG, ["from slot blue instead of green", "helm rollback"]),
        (silent(), REFUSE, LONG, ["gave no response", "endpointslices"]),
        (unknown(), REFUSE, LONG, []),
        (unknown(Name.UNSURE), REFUSE, LONG, ["DNS did not respond", "unknown where the traffic goes"]),
        (info(status=401), REFUSE, NONE, ["gate.apiKeySecret.name"]),
    ],
)
def test_where_traffic_went(heard: Heard, outcome: Outcome, patience: Patience, words: list[str]) -> None:
    check(decide_traffic(heard, PLAN.active_url, "green"), outcome, patience, *words)


@pytest.mark.parametrize(
    "document",
    [{}, {"paths": []}, {"paths": {"/predict": {"post": None}}}, {"paths": {"/predict": {"post": {"requestBody": 3}}}}],
)
def test_a_document_without_an_example(document: dict[str, Any]) -> None:
    heard = Heard("GET /openapi.json", status=200, document=document)
    assert find_examples(heard) == []
    check(decide_examples(heard, []), REFUSE, LONG, "names no example", "gate.request")


def test_without_dns_no_rule_names_anything_else() -> None:
    lost = unknown(Name.UNSURE)
    verdicts = [decide_ready(lost, Addresses("pods", 2), PLAN), decide_examples(lost, []), decide_reference(lost)]
    for verdict in [*verdicts, decide_sample(lost, "green"), decide_traffic(lost, PLAN.active_url, "green")]:
        check(verdict, REFUSE, LONG, "DNS did not respond for GET /info", "restore cluster DNS")


def test_a_locked_document_is_told_as_such() -> None:
    check(decide_examples(Heard("GET /openapi.json", status=401), []), REFUSE, NONE, "gate.apiKeySecret.name")


@pytest.mark.parametrize("url", ["http://127.0.0.1:80", "http://iris-berth", "http://svc.example.com"])
def test_a_name_that_tells_no_namespace(url: str) -> None:
    plan = replace(PLAN, active_url=url)
    assert plan.upgrade("--set a=b") == "helm upgrade iris CHART --reset-then-reuse-values --set a=b"


def drift_of(observed: list[int], status: int = 200, name: str = "age", **more: Any) -> Heard:
    """What /drift of one pod brings for a feature whose sample had 100 rows in each of two bins."""
    feature = {
        "name": name, "kind": "numeric", "labels": ["low", "high"], "expected": [100, 100], "observed": observed,
        "unusual": {},
    }  # fmt: skip
    report = {"model": "iris", "version": "2", "rows": sum(observed), "features": [feature]}
    return Heard("GET /drift", status=status, document={"models": [report]} if status == 200 else more)


NO_PROFILE = Heard("GET /drift", status=200, document={"models": []})


@pytest.mark.parametrize(
    ("heard", "outcome", "patience", "words"),
    [
        ([drift_of([120, 80])], GO_ON, NONE, ["at most 0."]),
        (
            [drift_of([10, 190])],
            REFUSE,
            NONE,
            ["age of iris@2 has drifted in slot green: its psi ", "times its threshold, but gate.maxDrift allows 2",
             "berth drift --headless-host=iris-berth-green-pods.shop.svc", "raise gate.maxDrift"],
        ),
        ([drift_of([5, 45]), drift_of([5, 145])], REFUSE, NONE, ["has drifted"]),  # 50 rows have no figure, 200 have
        ([drift_of([5, 45])], GO_ON, NONE, ["50 rows, too few", "judges nothing"]),
        ([NO_PROFILE], GO_ON, NONE, ["no profile"]),
        ([], GO_ON, NONE, ["no profile"]),
        ([drift_of([], 503, error="not ready")], REFUSE, SHORT, ["returned 503: not ready"]),
        ([drift_of([9, 91]), drift_of([9, 91], name="size")], REFUSE, SHORT, ["different features", "rollout"]),
        ([Heard("GET /drift", status=200, document={"models": [{}]})], REFUSE, SHORT, ["cannot be added up"]),
    ],
)  # fmt: skip
def test_drift_of_the_target(heard: list[Heard], outcome: Outcome, patience: Patience, words: list[str]) -> None:
    check(decide_drift(heard, PLAN, 2.0), outcome, patience, *words)
