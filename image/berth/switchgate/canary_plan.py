"""What the analysis of a canary has to compare, and the limits it has to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CanaryLimits:
    """By how much the canary may be worse than the live slot.

    Shares are parts of 1. `max_latency_ratio` and `max_drift` (psi divided by its threshold) judge nothing where they
    are 0. Fewer than `min_requests` in one of the slots are inconclusive.
    """

    min_requests: int = 500
    max_error_increase: float = 0.005
    max_latency_ratio: float = 1.3
    max_drift: float = 0.0


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """`berth gate --verify --canary-host=…`: is the slot that has a share of the traffic as good as the live one?

    The hosts are headless names. `inconclusive` is fail or pass. `namespace` is `-n NAMESPACE ` or empty.
    """

    release: str
    live_slot: str
    live_host: str
    canary_host: str
    fingerprint: str
    seconds: float = 120.0
    limits: CanaryLimits = CanaryLimits()
    inconclusive: str = "fail"
    pod_port: int = 8000
    namespace: str = ""

    @property
    def canary_slot(self) -> str:
        """The slot that has a share of the traffic."""
        return "blue" if self.live_slot == "green" else "green"

    @property
    def way_back(self) -> str:
        """How the canary's traffic goes back."""
        rollback = f"helm rollback {self.release or 'RELEASE'} {self.namespace}".rstrip()
        return f"take its traffic back with `{rollback}`, or upgrade with --rollback-on-failure"
