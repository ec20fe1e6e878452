"""What the gate has to judge, and the commands that its sentences name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_SERVICE = re.compile(r"[^.]+\.(?P<namespace>[^.]+)\.svc(\..*)?")


def namespace_of(host: str) -> str:
    """`-n NAMESPACE ` as kubectl and helm accept it, where a Service's host name has it."""
    found = _SERVICE.fullmatch(host)
    return f"-n {found['namespace']} " if found else ""


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """`berth gate`: may the release's traffic go to `target_slot`?"""

    release: str
    active_url: str
    target_url: str
    target_slot: str
    fingerprint: str
    headless_host: str
    other_mode: str
    min_ready: int = 1
    successes: int = 5
    timeout_seconds: float = 120.0
    bootstrap: str = "allow"
    max_latency_ms: int | None = None
    require_agreement: bool = False
    request: dict[str, Any] | None = None
    max_drift: float | None = None
    pod_port: int = 8000
    every_pod_host: str = ""

    @property
    def other_slot(self) -> str:
        """The slot that traffic would leave."""
        return "blue" if self.target_slot == "green" else "green"

    @property
    def namespace(self) -> str:
        """`-n NAMESPACE ` as kubectl and helm accept it, where the Service's name has it."""
        return namespace_of(urlsplit(self.active_url).hostname or "")

    def upgrade(self, changes: str) -> str:
        """The helm command that makes these changes and no others."""
        return f"helm upgrade {self.release} CHART {self.namespace}--reset-then-reuse-values {changes}"


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """`berth gate --verify`: does every connection to a Service reach `target_slot` and predict?

    With `route_url` the ingress controller or gateway in front of it is queried likewise, as by a client of
    `route_host`; a route that `route_shares` its requests, as a canary does, may lead to either slot.
    """

    active_url: str
    target_slot: str
    connections: int = 20
    timeout_seconds: float = 60.0
    request: dict[str, Any] | None = None
    route_url: str = ""
    route_host: str = ""
    route_shares: bool = False
