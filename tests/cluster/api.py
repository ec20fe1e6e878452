"""Reads the cluster's API through one connection, for what tests look at again and again while they wait.

On a small node a kubectl for each look would be most of the work that is going on.
"""

from __future__ import annotations

from typing import Any

from pytest_helm_charts.clusters import Cluster

# The kinds, with the API's version and the name of their list.
KINDS = {
    "pod": ("v1", "pods"),
    "pods": ("v1", "pods"),
    "events": ("v1", "events"),
    "service": ("v1", "services"),
    "deployment": ("apps/v1", "deployments"),
}


def _request(cluster: Cluster, namespace: str, version: str, path: str, parameters: dict[str, str]) -> Any:
    client = cluster.kube_client
    assert client is not None, "the cluster's client is made with the fixture kube_cluster"
    return client.get(version=version, namespace=namespace, url=path, params=parameters)


def read(cluster: Cluster, namespace: str, kind: str, name: str) -> dict[str, Any]:
    """One object. Raises requests.HTTPError where there is none."""
    version, plural = KINDS[kind]
    response = _request(cluster, namespace, version, f"{plural}/{name}", {})
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def read_list(cluster: Cluster, namespace: str, kind: str, labels: str, fields: str) -> list[dict[str, Any]]:
    """All objects of a kind that have the labels and the fields; empty selectors select all."""
    version, plural = KINDS[kind]
    response = _request(cluster, namespace, version, plural, {"labelSelector": labels, "fieldSelector": fields})
    response.raise_for_status()
    found: list[dict[str, Any]] = response.json()["items"]
    return found


def read_log(cluster: Cluster, namespace: str, pod: str, container: str, previous: bool = False) -> str:
    """What a container of a pod, or the one before it, has printed; empty where there is none."""
    parameters = {"container": container, "previous": str(previous).lower()}
    response = _request(cluster, namespace, "v1", f"pods/{pod}/log", parameters)
    return str(response.text) if response.ok else ""
