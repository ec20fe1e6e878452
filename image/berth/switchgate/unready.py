"""Why a slot is not ready: what its pods say of their models at /health, which responds before they are ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from berth.switchgate.heard import Heard
from berth.switchgate.plan import SwitchPlan

_FAILED = "failed"
_SHOWN, _MOST = 400, 3


def _failures(heard: Heard) -> Iterator[str]:
    """`NAME@VERSION: REASON` of each model that failed in a pod."""
    models = heard.document.get("models")
    for key, state in models.items() if isinstance(models, dict) else ():
        if isinstance(state, dict) and state.get("state") == _FAILED:
            yield f"{key}: {str(state.get('reason'))[:_SHOWN]}"


def explain_unready(pods: Sequence[Heard], plan: SwitchPlan) -> str:
    """The reasons in one line, from /health of every pod of the slot, ready or not; empty where they say nothing."""
    counts = Counter(failure for heard in pods for failure in sorted(_failures(heard)))
    if counts:
        found = (f"{failure} ({count} of {len(pods)} pods)" for failure, count in counts.most_common(_MOST))
        return f"a model of slot {plan.target_slot} cannot be loaded: {'; '.join(found)}"
    if pods and all(heard.status == 0 for heard in pods):
        command = f"kubectl {plan.namespace}logs -l berth.dev/slot={plan.target_slot} --all-containers"
        return f"the pods of slot {plan.target_slot} do not respond yet: read their log with `{command}`"
    return ""
