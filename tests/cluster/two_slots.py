"""A release with two pods in either slot, and the values that switch it."""

from __future__ import annotations

from cluster.kube import EXAMPLES, Namespace, Release, Values

INSTALL, STAGE, SWITCH = (EXAMPLES / f"blue-green-{step}.yaml" for step in ("1-install", "2-stage", "3-switch"))
QUICK: Values = {"gate": {"timeoutSeconds": 30}}


def stage_both(namespace: Namespace) -> Release:
    """The release `iris`, blue live and green ready."""
    release = Release(namespace, "iris")
    release.install(INSTALL, QUICK)
    release.upgrade(STAGE, QUICK)
    release.ready("green")
    return release
