"""Tests on the cluster that KUBECONFIG names, in namespaces that enforce restricted Pod Security."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_helm_charts.clusters import Cluster

from cluster import faults
from cluster.kube import Namespace, Release, new_namespace, run
from cluster.turns import node_programs

HERE = Path(__file__).parent
NEEDS = ("helm", "kubectl")


def _reason() -> str:
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is unset: no cluster to test on"
    missing = [program for program in NEEDS if shutil.which(program) is None]
    return f"{missing[0]} is not on PATH" if missing else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, and skip it where there is no cluster."""
    reason = _reason()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def report() -> Iterator[None]:
    """Write what a fault cost when its test ends; a run with something turned off is no measurement."""
    yield
    if faults.MEASURED and not os.environ.get("TEST_WITHOUT"):
        with node_programs():
            version = run(["kubectl", "version", "-o=json"]).stdout
        faults.write_report(json.loads(version)["serverVersion"]["gitVersion"])
        faults.MEASURED.clear()


@pytest.fixture(scope="module")
def namespace(kube_cluster: Cluster) -> Iterator[Namespace]:
    """A namespace of the module's own; everything in it goes with it."""
    with new_namespace(kube_cluster) as namespace:
        yield namespace


@pytest.fixture
def release(namespace: Namespace) -> Iterator[Release]:
    """The release `iris`, uninstalled after the test."""
    release = Release(namespace, "iris")
    yield release
    release.remove()
