"""What keeps requests, turned off one at a time: TEST_WITHOUT names it, and a row of the faults' table must fail then.

TEST_WITHOUT=drain      1   a pod is deleted
TEST_WITHOUT=readiness  1   a pod is deleted: its successor gets requests before it has loaded
TEST_WITHOUT=budget     1b  a pod is evicted: the other one may go with it
TEST_WITHOUT=gate       9   cluster DNS is down: the switch goes through
"""

from __future__ import annotations

from typing import Any

# Imported by Python at its start: a worker that has loaded nothing calls itself ready; models take a while to load, as
# the samples are ready before the first probe comes.
_ALWAYS_READY = """
import time
from berth.serving import lifecycle, opening
lifecycle.Lifecycle.readiness = lambda self: lifecycle.Readiness(not self.draining)
def open_slowly(*given, really=opening.open_version, **more):
    time.sleep(8)
    return really(*given, **more)
opening.open_version = open_slowly
"""
_READY: dict[str, Any] = {
    "slotDefaults": {
        "extraEnv": [{"name": "PYTHONPATH", "value": "/mutation"}],
        "extraVolumes": [{"name": "mutation", "configMap": {"name": "mutation"}}],
        "extraVolumeMounts": [{"name": "mutation", "mountPath": "/mutation"}],
    },
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "mutation"},
            "data": {"sitecustomize.py": _ALWAYS_READY},
        }
    ],
}
_OFF: dict[str, dict[str, Any]] = {
    "": {},
    "drain": {"slotDefaults": {"drainSeconds": 0}},
    "readiness": _READY,
    "budget": {"slotDefaults": {"podDisruptionBudget": {"enabled": False}}},
    "gate": {"gate": {"enabled": False}},
}


def _lay(under: Any, over: Any) -> Any:
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {**under, **{key: _lay(under.get(key), value) for key, value in over.items()}}


def without(values: dict[str, Any], what: str) -> dict[str, Any]:
    """Values with one of them turned off; empty for none. Raises KeyError for another name."""
    laid: dict[str, Any] = _lay(values, _OFF[what])
    return laid
