"""Whether traffic may go to a slot, and whether it really goes there: what the chart's hooks run.

plan.py says what is checked, heard.py what came back, decide.py holds the rules (pure), asking.py makes the requests,
inquiry.py watches the clock; this file puts the rules in their order.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from berth.switchgate.asking import Line
from berth.switchgate.decide import (
    Outcome,
    Patience,
    Verdict,
    decide_active,
    decide_examples,
    decide_other_mode,
    decide_ready,
    decide_reference,
    decide_sample,
    decide_target,
    decide_traffic,
    is_outage,
    passes,
    refuses,
)
from berth.switchgate.drifting import decide_drift
from berth.switchgate.heard import Heard, find_examples, slot_of
from berth.switchgate.inquiry import Inquiry
from berth.switchgate.plan import SwitchPlan, VerifyPlan
from berth.switchgate.unready import explain_unready


class _Target:
    """Rules 4 to 7: the slot that the traffic would go to, queried at its own Service."""

    def __init__(self, plan: SwitchPlan, inquiry: Inquiry, *, outage: bool) -> None:
        self._plan, self._inquiry, self._outage = plan, inquiry, outage
        self._bodies: list[dict[str, Any]] = [] if plan.request is None else [plan.request]
        self._live: Heard | None = None
        self._reason = ""

    def _explained(self, verdict: Verdict) -> Verdict:
        """A refusal that time may change, with the reason that the pods give; the last one is kept."""
        host = self._plan.every_pod_host
        if not host or verdict.outcome is not Outcome.REFUSE or verdict.patience is Patience.NONE:
            return verdict
        pods = self._inquiry.get_pods(host, self._plan.pod_port, "/health")
        self._reason = explain_unready(pods, self._plan) or self._reason
        return replace(verdict, sentence="; ".join(filter(None, (self._reason, verdict.sentence))))

    def _identity(self) -> Verdict:
        info = self._inquiry.get(self._plan.target_url, "/info")
        return self._explained(decide_target(info, self._plan, outage=self._outage))

    def _readiness(self) -> Verdict:
        readyz = self._inquiry.get(self._plan.target_url, "/readyz")
        return self._explained(decide_ready(readyz, self._inquiry.count(self._plan.headless_host), self._plan))

    def _examples(self) -> Verdict:
        heard = self._inquiry.get(self._plan.target_url, "/openapi.json")
        self._bodies = find_examples(heard)
        return decide_examples(heard, self._bodies)

    def _reference(self) -> Verdict:
        self._live = self._inquiry.predict(self._plan.active_url, self._bodies[0])
        return decide_reference(self._live)

    def _drift(self) -> Verdict:
        reports = self._inquiry.get_pods(self._plan.headless_host, self._plan.pod_port, "/drift")
        return decide_drift(reports, self._plan, self._plan.max_drift or 0.0)

    def _sample(self, line: Line) -> Verdict:
        """One connection: who is it, and does it predict, for every model; the first is compared."""
        verdict = decide_target(self._inquiry.get_on(line, "/info"), self._plan, outage=self._outage)
        for at, body in enumerate(self._bodies):
            if verdict.outcome is Outcome.REFUSE:
                break
            answer = self._inquiry.predict_on(line, body)
            live = self._live if at == 0 else None
            verdict = decide_sample(answer, self._plan.target_slot, self._plan.max_latency_ms, live)
        return verdict

    def judge(self) -> Verdict:
        """The first refusal, or the pass."""
        rules = [self._identity, self._readiness]
        if self._plan.request is None:
            rules.append(self._examples)
        if self._plan.require_agreement and not self._outage:
            rules.append(self._reference)
        if self._plan.max_drift is not None:
            rules.append(self._drift)
        for rule in rules:
            verdict = self._inquiry.settle(rule)
            if verdict.outcome is Outcome.REFUSE:
                return verdict
        verdict = self._inquiry.settle_row(self._plan.successes, self._plan.target_url, self._sample)
        return (
            verdict if verdict.outcome is Outcome.REFUSE else passes(f"traffic may go to slot {self._plan.target_slot}")
        )


def judge_switch(plan: SwitchPlan, inquiry: Inquiry) -> Verdict:
    """Whether the upgrade may go on: PASS or REFUSE, with the reason."""
    last: list[Heard] = []

    def ask_active() -> Verdict:
        last[:] = [inquiry.get(plan.active_url, "/info")]
        return decide_active(last[0], plan)

    verdict = inquiry.settle(ask_active)
    outage = is_outage(last[0])
    if verdict.outcome is Outcome.GO_ON and not outage:
        verdict = inquiry.settle(lambda: decide_other_mode(plan))
    if verdict.outcome is not Outcome.GO_ON:
        return verdict
    return _Target(plan, inquiry, outage=outage).judge()


def verify_traffic(plan: VerifyPlan, inquiry: Inquiry) -> Verdict:
    """Whether every fresh connection reaches the slot and predicts: PASS or REFUSE, with the reason."""
    bodies = [] if plan.request is None else [plan.request]

    def look(line: Line, url: str, shares: bool = False) -> Verdict:
        info = inquiry.get_on(line, "/info")
        slot = slot_of(info) if shares and slot_of(info) else plan.target_slot
        verdict = decide_traffic(info, url, slot)
        if verdict.outcome is Outcome.GO_ON and not bodies:
            heard = inquiry.get_on(line, "/openapi.json")
            bodies.extend(find_examples(heard))
            verdict = decide_examples(heard, bodies)
        for body in bodies:
            if verdict.outcome is Outcome.REFUSE:
                break
            answer = inquiry.predict_on(line, body)
            # The next request of a connection may go to the other slot as well.
            verdict = decide_sample(answer, answer.slot if shares and answer.slot else slot)
        return verdict

    verdict = inquiry.settle_row(plan.connections, plan.active_url, lambda line: look(line, plan.active_url))
    if verdict.outcome is not Outcome.REFUSE and plan.route_url:
        place = f"{plan.route_url} (Host: {plan.route_host})" if plan.route_host else plan.route_url
        through = partial(look, url=place, shares=plan.route_shares)
        verdict = inquiry.settle_row(plan.connections, plan.route_url, through, plan.route_host)
        if verdict.outcome is Outcome.REFUSE:
            return refuses(f"through the route: {verdict.sentence}")
    if verdict.outcome is Outcome.REFUSE:
        return verdict
    also = " and the route" if plan.route_url else ""
    return passes(f"all {plan.connections} connections to {plan.active_url}{also} reached slot {plan.target_slot}")
