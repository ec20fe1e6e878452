"""The gate's rules, pure: what was heard goes in, a verdict with one plain sentence comes out.

A refusal names what was wrong and the next command. `patience` says how long a verdict may still be doubted:

    NONE    it will not change by waiting
    SHORT   a blip or a rollout could explain it
    LONG    it may come true until the time is up
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from berth.switchgate.heard import Addresses, Heard, Name, models_of, slot_of
from berth.switchgate.plan import SwitchPlan

_STARTING = frozenset({0, 429, 502, 503, 504})
_LOCKED = frozenset({401, 403})
# Two responses are alike when their numbers differ by no more than this, absolute or relative.
_TOLERANCE = 1e-6
_NAMES = frozenset({"model", "version"})


class Outcome(Enum):
    """What a verdict means for the upgrade."""

    PASS = "the gate is open, no rule is left"  # noqa: S105 - a word, no password
    GO_ON = "this rule holds, the next one applies"
    REFUSE = "the upgrade must not go on"


class Patience(Enum):
    """How long a verdict may be doubted."""

    NONE = "none"
    SHORT = "short"
    LONG = "long"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says."""

    outcome: Outcome
    sentence: str
    patience: Patience = Patience.NONE


def passes(sentence: str) -> Verdict:
    """No other rule needs to be checked."""
    return Verdict(Outcome.PASS, sentence)


def goes_on(sentence: str, patience: Patience = Patience.NONE) -> Verdict:
    """The rule holds."""
    return Verdict(Outcome.GO_ON, sentence, patience)


def refuses(sentence: str, patience: Patience = Patience.NONE) -> Verdict:
    """The rule does not hold."""
    return Verdict(Outcome.REFUSE, sentence, patience)


def is_outage(heard: Heard) -> bool:
    """The name is there, but nothing of Berth responds: silence, or a mesh that says so in its place."""
    return heard.name is Name.KNOWN and not slot_of(heard) and (heard.status == 0 or heard.status >= 500)


def _locked(heard: Heard) -> Verdict:
    return refuses(
        f"{heard.request} {heard.told}: put a key that is good for it into a Secret "
        "and name that in gate.apiKeySecret.name"
    )


def _unresolved(what: str, fault: str, unknown: str) -> Verdict:
    """The refusal of every rule that DNS leaves without a response."""
    sentence = f"DNS did not respond for {what} ({fault}), so {unknown}: restore cluster DNS, then repeat the upgrade"
    return refuses(sentence, Patience.LONG)


def _unheard(heard: Heard, unknown: str) -> Verdict | None:
    """What every rule says where DNS gave nothing, or no key opens the route; None for a response to judge."""
    if heard.name is Name.UNSURE:
        return _unresolved(heard.request, heard.fault, unknown)
    return _locked(heard) if heard.status in _LOCKED else None


def decide_active(info: Heard, plan: SwitchPlan) -> Verdict:
    """Rules 1 and 2, from the active Service's /info: a first install, an outage, no switch, or a switch."""
    slot = slot_of(info)
    if info.name is Name.UNSURE:
        return _unresolved(info.request, info.fault, "it is unknown which slot is live")
    if info.name is Name.UNKNOWN:
        if plan.bootstrap == "allow":
            return passes(f"{plan.active_url} does not resolve: a first install, there is no traffic to protect")
        return refuses(
            f"{plan.active_url} does not resolve, so there is no live slot to compare with, and gate.bootstrap is "
            f"refuse: install first, or allow it ({plan.upgrade('--set gate.bootstrap=allow')})"
        )
    if is_outage(info):
        sentence = f"an outage: {info.request} {info.told}, so slot {plan.target_slot} is judged alone"
        return goes_on(sentence, Patience.SHORT)
    if not slot:
        if info.status in _LOCKED:
            return _locked(info)
        return refuses(
            f"{info.request} {info.told} and names no slot, so something else responds there: "
            f"run `kubectl {plan.namespace}describe service`, or go past the gate with --no-hooks",
            Patience.SHORT,
        )
    if slot == plan.target_slot:
        return passes(f"slot {slot} is live already: this upgrade is not a switch")
    return goes_on(f"slot {slot} is live: this upgrade switches to {plan.target_slot}")


def decide_other_mode(plan: SwitchPlan) -> Verdict:
    """Rule 3: the revision that switches must not shrink the slot that traffic leaves."""
    if plan.other_mode == "serve":
        return goes_on(f"slots.{plan.other_slot}.mode stays serve, so there is a way back")
    switch = plan.upgrade(f"--set activeSlot={plan.target_slot} --set slots.{plan.other_slot}.mode=serve")
    retire = plan.upgrade(f"--set slots.{plan.other_slot}.mode={plan.other_mode}")
    return refuses(
        f"slots.{plan.other_slot}.mode is {plan.other_mode} in the same upgrade that takes traffic from it: "
        f"switch first ({switch}), then retire it in an upgrade of its own ({retire})"
    )


def _stage_first(fault: str, plan: SwitchPlan, patience: Patience, *, outage: bool) -> Verdict:
    stage = plan.upgrade(f"--set slots.{plan.target_slot}.mode=serve --set slots.{plan.target_slot}.model.version=…")
    switch = plan.upgrade(f"--set activeSlot={plan.target_slot}")
    repair = (
        "; if this upgrade is no switch but the repair of the silent slot, repeat it with --no-hooks" if outage else ""
    )
    return refuses(f"{fault}: stage first ({stage}), then switch ({switch}){repair}", patience)


def decide_target(info: Heard, plan: SwitchPlan, *, outage: bool = False) -> Verdict:
    """Rule 4, from the target's /info: the slot must already run what this revision renders for it."""
    slot, found = slot_of(info), info.word("fingerprint")
    if (refusal := _unheard(info, f"slot {plan.target_slot} cannot be judged")) is not None:
        return refusal
    if info.status != 200:
        patience = Patience.NONE if info.name is Name.UNKNOWN else Patience.LONG
        return _stage_first(f"slot {plan.target_slot} {info.told} at {info.request}", plan, patience, outage=outage)
    if slot != plan.target_slot:
        return refuses(
            f"{plan.target_url} leads to slot {slot or '(none)'} instead of {plan.target_slot}: "
            f"check its selector with `kubectl {plan.namespace}get endpointslices`"
        )
    if found != plan.fingerprint:
        serves = models_of(info) or "no model yet"
        fault = (
            f"slot {slot} runs fingerprint {found or '(none)'} ({serves}), "
            f"but this upgrade would give it {plan.fingerprint}, which is unchecked"
        )
        return _stage_first(fault, plan, Patience.SHORT, outage=outage)
    return goes_on(f"slot {slot} runs fingerprint {found}: {models_of(info) or 'no model yet'}")


def decide_ready(readyz: Heard, addresses: Addresses, plan: SwitchPlan) -> Verdict:
    """Rule 5: the slot says that it is ready, and enough of its pods are."""
    look = f"examine it with `kubectl {plan.namespace}get pods -l berth.dev/slot={plan.target_slot}`, then switch again"
    if readyz.name is Name.UNSURE:
        return _unresolved(readyz.request, readyz.fault, f"slot {plan.target_slot} cannot be judged")
    if readyz.status != 200:
        return refuses(f"slot {plan.target_slot} is not ready: {readyz.request} {readyz.told}; {look}", Patience.LONG)
    if addresses.fault:
        return _unresolved(addresses.host, addresses.fault, "the ready pods cannot be counted")
    if addresses.pods < plan.min_ready:
        return refuses(
            f"slot {plan.target_slot} has {addresses.pods} ready pods behind {addresses.host}, "
            f"but gate.minReady wants {plan.min_ready}; {look}",
            Patience.LONG,
        )
    return goes_on(f"slot {plan.target_slot} is ready: {addresses.pods} pods, {plan.min_ready} wanted")


def decide_examples(openapi: Heard, bodies: Sequence[dict[str, Any]]) -> Verdict:
    """Whether there is something to send as a sample prediction."""
    if (refusal := _unheard(openapi, "there is no sample prediction to send")) is not None:
        return refusal
    if not bodies:
        told = openapi.told if openapi.status != 200 else "names no example for POST /predict"
        return refuses(f"{openapi.request} {told}: give a body in gate.request", Patience.LONG)
    return goes_on(f"{len(bodies)} sample predictions come from {openapi.request}")


def decide_reference(answer: Heard) -> Verdict:
    """The live slot's response, with which the target's is to be compared."""
    if answer.status == 200:
        return goes_on("the live slot has responded to the sample prediction")
    if (refusal := _unheard(answer, "the live slot cannot be compared with")) is not None:
        return refusal
    return refuses(
        f"the live slot cannot be compared with: {answer.request} {answer.told}; "
        "give a body that both slots accept in gate.request, or switch with --set gate.requireAgreement=false",
        Patience.LONG if answer.status in _STARTING else Patience.NONE,
    )


def alike(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, numbers within the tolerance."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) or isinstance(other, float):
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
        return numbers and math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return type(one) is type(other) and bool(one == other)


def _answer_of(heard: Heard) -> dict[str, Any]:
    """The response without the names in which two slots differ by right."""
    return {key: value for key, value in heard.document.items() if key not in _NAMES}


def _short(heard: Heard) -> str:
    return str(_answer_of(heard))[:120]


def decide_sample(answer: Heard, slot: str, max_latency_ms: int | None = None, live: Heard | None = None) -> Verdict:
    """Rule 6, for one sample prediction of `slot`; `live` is the live slot's response, where they must agree."""
    took = answer.seconds * 1000
    if (refusal := _unheard(answer, f"slot {slot} cannot be judged")) is not None:
        return refusal
    if answer.status in _STARTING:
        return refuses(f"slot {slot} does not predict: {answer.request} {answer.told}", Patience.LONG)
    if 400 <= answer.status < 500:
        return refuses(
            f"slot {slot} refuses the sample prediction: {answer.request} {answer.told}; "
            "give a body that the model accepts in gate.request, then repeat the upgrade"
        )
    if answer.status != 200 or not answer.document:
        told = answer.told if answer.status != 200 else "returned 200 without a JSON object"
        return refuses(
            f"slot {slot} does not predict: {answer.request} {told}; read the slot's log, then stage it again",
            Patience.SHORT,
        )
    if max_latency_ms is not None and took > max_latency_ms:
        return refuses(
            f"slot {slot} took {took:.0f} ms for a sample prediction, but gate.maxLatencyMs allows {max_latency_ms}; "
            "give the slot more CPU, or raise gate.maxLatencyMs",
            Patience.SHORT,
        )
    if answer.slot and answer.slot != slot:
        return refuses(f"{answer.request} got a response from slot {answer.slot} instead of {slot}", Patience.LONG)
    if live is not None and not alike(_answer_of(answer), _answer_of(live)):
        return refuses(
            f"slot {slot} returns {_short(answer)} where the live slot returns {_short(live)} for the same body; "
            "if the new model is meant to differ, switch with --set gate.requireAgreement=false"
        )
    return goes_on(f"slot {slot} predicted in {took:.1f} ms")


def decide_traffic(info: Heard, url: str, slot: str) -> Verdict:
    """For verify: whether this connection's /info comes from the slot that should have the traffic."""
    if (refusal := _unheard(info, "it is unknown where the traffic goes")) is not None:
        return refusal
    if info.status != 200:
        return refuses(
            f"{info.request} {info.told}; see who is behind it with `kubectl get endpointslices`", Patience.LONG
        )
    if slot_of(info) != slot:
        return refuses(
            f"{url} gave a response from slot {slot_of(info) or '(none)'} instead of {slot}; "
            "go back with `helm rollback`, then see who is behind it with `kubectl get endpointslices`",
            Patience.LONG,
        )
    return goes_on(f"slot {slot} responded")
