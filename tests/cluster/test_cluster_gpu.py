"""A slot that asks for a GPU runs on a node that has one, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.kube import EXAMPLES, FLOWER, Namespace, Release, Values, eventually

# A name that no device plugin owns, so that the test may hand it out and take it away on any cluster.
RESOURCE, PRODUCT = "berth.dev/gpu", "Test-GPU"
GPU: Values = {
    "slotDefaults": {
        "gpu": {"enabled": True, "resource": RESOURCE, "product": PRODUCT, "productLabel": "berth.dev/product"}
    }
}


@contextmanager
def advertised(namespace: Namespace) -> Iterator[str]:
    """One node that says it has one GPU; its name."""
    node = str(namespace.list("nodes")[0]["metadata"]["name"])

    def say(count: str | None, label: str) -> None:
        patch = json.dumps({"status": {"capacity": {RESOURCE: count}, "allocatable": {RESOURCE: count}}})
        namespace.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)
        namespace.kubectl("label", "--overwrite", "node", node, label)

    say("1", f"berth.dev/product={PRODUCT}")
    try:
        yield node
    finally:
        say(None, "berth.dev/product-")


def waiting_for(release: Release) -> str:
    """Why the scheduler lets the slot's pod wait, or empty."""
    for pod in release.pods("blue"):
        for condition in pod["status"].get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return str(condition["message"])
    return ""


@pytest.mark.slow
def test_a_gpu_slot_waits_for_a_node_with_one(release: Release) -> None:
    release.apply_chart(EXAMPLES / "quickstart.yaml", GPU)
    eventually(
        lambda: "didn't match Pod's node affinity/selector" in waiting_for(release), "no node is good enough", 30
    )
    with advertised(release.namespace) as node:
        release.ready("blue")
        (pod,) = release.pods("blue")
        assert pod["spec"]["nodeName"] == node
        assert pod["spec"]["containers"][0]["resources"]["limits"][RESOURCE] == "1"
        assert release.namespace.client().ask(f"{release.url}/predict", FLOWER).status == 200
