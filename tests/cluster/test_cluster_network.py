"""NetworkPolicies let in whom they name, keep out the rest, and do not stand in the gate's way; an Ingress answers."""

from __future__ import annotations

import pytest

from cluster.kube import (
    EXAMPLES,
    FLOWER,
    REPOSITORY,
    TAG,
    Namespace,
    Release,
    Values,
    eventually,
    restricted_container,
    restricted_pod,
)

QUICKSTART = EXAMPLES / "quickstart.yaml"
POLICIES: Values = {
    "networkPolicy": {"enabled": True, "ingressFrom": [{"podSelector": {"matchLabels": {"role": "frontend"}}}]}
}
HOST, PATHS = "iris.example", [{"path": "/", "pathType": "Prefix"}]
IMAGE = f"{REPOSITORY}:{TAG}"
_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 8080), 3)
    print("open")
except OSError:
    print("shut")
"""


def listen(namespace: Namespace) -> str:
    """The address of a pod that anybody may reach at port 8080."""
    command = ["python", "-m", "http.server", "8080"]
    namespace.apply(restricted_pod("listener", [restricted_container("listener", IMAGE, command)]))
    namespace.kubectl("wait", "pod/listener", "--for=condition=Ready", "--timeout=60s")
    return str(namespace.get("pod", "listener")["status"]["podIP"])


@pytest.fixture
def listener(namespace: Namespace) -> str:
    """The address of a pod; skips where the cluster accepts NetworkPolicies and does not enforce them."""
    address, client = listen(namespace), namespace.client("probe", {"app": "probe"})
    assert client.python(_CONNECT, address).strip() == "open"
    spec = {"podSelector": {"matchLabels": {"app": "probe"}}, "policyTypes": ["Egress"], "egress": []}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "probe"},
        "spec": spec,
    }
    namespace.apply(policy)
    try:
        eventually(lambda: client.python(_CONNECT, address).strip() == "shut", "", 8)
    except AssertionError:
        pytest.skip("this cluster does not enforce NetworkPolicies")
    return address


def test_policies_let_in_whom_they_name(release: Release, listener: str) -> None:
    namespace = release.namespace
    friend, stranger = namespace.client("friend", {"role": "frontend"}), namespace.client("stranger")
    release.install(QUICKSTART, POLICIES)
    # The pods are ready a moment before every node knows where the Service leads.
    eventually(lambda: friend.ask(f"{release.url}/predict", FLOWER).status == 200, "the friend's answer", 20)
    assert stranger.ask(f"{release.url}/predict", FLOWER).status == 0
    # A server calls nobody.
    server = f"deployment/{release.full}-blue"
    assert stranger.python(_CONNECT, listener).strip() == "open"
    assert namespace.kubectl("exec", server, "--", "python", "-c", _CONNECT, listener).strip() == "shut"
    # The gate, verify and helm test still see what they have to.
    release.upgrade(QUICKSTART, POLICIES, {"slots": {"green": {"mode": "serve", "model": {"version": 2}}}})
    release.ready("green")
    both: Values = {"activeSlot": "green", "slots": {"green": {"mode": "serve", "model": {"version": 2}}}}
    release.upgrade(QUICKSTART, POLICIES, both)
    release.helm("test", release.name, "--timeout=90s")
    assert friend.ask(f"{release.url}/predict", FLOWER).slot == "green"


def test_an_ingress_answers(release: Release) -> None:
    namespace = release.namespace
    controllers = namespace.cluster.kubectl("get services --all-namespaces", selector="")
    found = [each["metadata"] for each in controllers if each["metadata"]["name"] == "traefik"]
    if not found:
        pytest.skip("no Service named traefik: no ingress controller that this test knows")
    ingress: Values = {"ingress": {"enabled": True, "className": "traefik", "hosts": [{"host": HOST, "paths": PATHS}]}}
    release.install(QUICKSTART, ingress)
    client, url = namespace.client(), f"http://{found[0]['name']}.{found[0]['namespace']}"

    def answers() -> bool:
        answer = client.ask(f"{url}/predict", FLOWER, {"Host": HOST})
        return answer.status == 200 and answer.slot == "blue"

    eventually(answers, "the controller sends the host's requests to the release", 30)
    assert client.ask(f"{url}/predict", FLOWER, {"Host": "other.example"}).status == 404
    # verify asks through the controller too; what it does not route there fails the upgrade.
    release.upgrade(QUICKSTART, ingress, {"verify": {"routeUrl": url}})
    told = release.refused(QUICKSTART, ingress, {"verify": {"routeUrl": f"{url}:8080", "timeoutSeconds": 8}})
    assert "through the route" in told
