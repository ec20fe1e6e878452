"""The restricted Pod Security Standard, as far as a pod's own text decides it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "image",  # admitted by restricted: tests/cluster/test_cluster_models.py runs one there
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(pod: Object) -> list[str]:
    """Why a namespace that enforces the restricted standard would not admit the pod."""
    spec = pod["spec"]
    return [
        *pod_violations(spec),
        *(each for container in all_containers(spec) for each in container_violations(container, spec)),
    ]


def all_containers(spec: Object) -> Iterator[Object]:
    """Every container of whatever sort."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key, [])


def pod_violations(spec: Object) -> Iterator[str]:
    """What the pod itself gets wrong."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is on"
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed"
    security = spec.get("securityContext", {})
    if security.get("runAsUser") == 0:
        yield "the pod runs as root"
    if security.get("sysctls"):
        yield "the pod sets sysctls"


def container_violations(container: Object, spec: Object) -> Iterator[str]:
    """What one container gets wrong, the pod's context counted where it has none."""
    security, around, name = container.get("securityContext", {}), spec.get("securityContext", {}), container["name"]
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    if security.get("privileged"):
        yield f"{name} is privileged"
    capabilities = security.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name} keeps capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities"
    if security.get("runAsNonRoot", around.get("runAsNonRoot")) is not True:
        yield f"{name} may run as root"
    if security.get("runAsUser") == 0:
        yield f"{name} runs as root"
    seccomp = security.get("seccompProfile", around.get("seccompProfile", {}))
    if seccomp.get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{name} has no seccomp profile"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name} takes a port of the node"
    if "hostProcess" in security.get("windowsOptions", {}):
        yield f"{name} is a host process"
