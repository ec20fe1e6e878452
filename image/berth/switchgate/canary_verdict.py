"""The analysis's table and its last line, from the figures."""

from __future__ import annotations

from collections.abc import Sequence

from berth.switchgate.canary_plan import CanaryPlan
from berth.switchgate.decide import Verdict, passes, refuses
from berth.switchgate.slot_comparison import Figure, Finding


def draw_table(figures: Sequence[Figure], plan: CanaryPlan) -> list[str]:
    """A line for each figure: both slots, the difference, the limit and the finding."""
    head = ("", f"{plan.live_slot} (live)", f"{plan.canary_slot} (canary)", "difference", "limit", "verdict")
    rows = [head, *((each.name, each.live, each.canary, each.difference, each.limit, each.finding.value)
                    for each in figures)]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _inconclusive(figures: Sequence[Figure], plan: CanaryPlan) -> Verdict:
    reasons = "; ".join(each.sentence for each in figures if each.finding is Finding.TOO_FEW)
    sentence = f"the canary in slot {plan.canary_slot} is inconclusive after {plan.seconds:g} s: {reasons}"
    if plan.inconclusive == "pass":
        return passes(f"{sentence}; canary.analysis.inconclusive is pass")
    return refuses(
        f"{sentence}: send it more requests, or raise canary.weight or canary.analysis.seconds; "
        f"until then {plan.way_back}"
    )


def conclude(figures: Sequence[Figure], plan: CanaryPlan) -> Verdict:
    """Whether the upgrade may stand: PASS, or REFUSE with the reasons and the next command."""
    failed = [each.sentence for each in figures if each.finding is Finding.FAILED]
    if failed:
        return refuses(f"the canary in slot {plan.canary_slot} is worse: {'; '.join(failed)}: {plan.way_back}")
    if any(each.finding is Finding.TOO_FEW for each in figures):
        return _inconclusive(figures, plan)
    return passes(
        f"the canary in slot {plan.canary_slot} is as good as slot {plan.live_slot}, after {plan.seconds:g} s"
    )
