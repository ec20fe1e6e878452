"""Pods of one slot that cannot reach each other: clients notice nothing, and shared counts agree again afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.faults import Fault, Stopwatch
from cluster.kube import EXAMPLES, Client, Namespace, Object, Release, Values, eventually
from cluster.load import load

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
ARMS: Values = {
    "slots": {"blue": {"model": {"others": [{"name": "iris", "version": 2}]}}},
    "slotDefaults": {
        "experiment": {
            "experiments": [
                {
                    "name": "arms",
                    "model": "iris",
                    "policy": "thompson",
                    "arms": [{"model": "iris@1"}, {"model": "iris@2"}],
                }
            ]
        }
    },
    "feedback": {"existingSecret": "receipts"},
}
# Predictions at one address with a reward for each; then what the pod at another counts.
_REWARD = """
import json, sys, urllib.request
url, body = sys.argv[1], json.dumps({"features": [5.1, 3.5, 1.4, 0.2]}).encode()
def post(path, document):
    request = urllib.request.Request(url + path, document, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return response.headers["X-Berth-Receipt"]
for _ in range(50):
    receipt = post("/predict", body)
    post("/feedback", json.dumps({"receipt": receipt, "reward": 1}).encode())
"""


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release whose two pods share the rewards of a bandit."""
    namespace.kubectl("create", "secret", "generic", "receipts", f"--from-literal=feedback-keys={'k' * 32}")
    release = Release(namespace, "iris")
    release.install(INSTALL, ARMS)
    yield release
    release.remove()


def partition(release: Release) -> Object:
    """A policy that lets the client in, and no pod of the release."""
    pods = {"matchLabels": {"app.kubernetes.io/instance": release.name}}
    client = {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "partition"},
        "spec": {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": [client]},
    }


def rewards(client: Client, address: str) -> list[Any]:
    """What a pod knows of the arms' rewards."""
    document = client.ask(f"http://{address}:8000/experiments").json()
    return [arm["rewards"] for arm in document["experiments"][0]["arms"]]


def test_pods_that_cannot_reach_each_other(blue: Release) -> None:
    namespace = blue.namespace
    client = namespace.client("client", {"app": "client"})
    one, other = (pod["status"]["podIP"] for pod in blue.pods("blue"))
    with load(client, blue.url) as counts:
        namespace.apply(partition(blue))
        try:
            probe = f"import socket; socket.create_connection(({json.dumps(other)}, 8000), 2)"
            pod = blue.pods("blue")[0]["metadata"]["name"]
            shut = ["exec", pod, "-c", "berth", "--", "python", "-c", probe]
            try:
                eventually(lambda: namespace.try_kubectl(*shut).returncode != 0, "the partition", 15)
            except AssertionError:
                pytest.skip("this cluster does not enforce NetworkPolicies")
            client.python(_REWARD, f"http://{one}:8000")
            time.sleep(8)
            apart = rewards(client, one), rewards(client, other)
        finally:
            namespace.kubectl("delete", "networkpolicy", "partition")
        watch = Stopwatch()
        eventually(lambda: rewards(client, one) == rewards(client, other), "both know the same rewards", 30)
        seconds = watch.seconds
    assert sum(apart[0]) == 50
    assert sum(apart[1]) == 0
    assert sum(rewards(client, other)) == 50
    promise = "0 failed; shared counts agree within 15 s"
    Fault("14", "the pods of a slot cannot reach each other", promise).record(counts, seconds)
    assert counts["failed"] == 0, counts["faults"]
    assert seconds <= 15
