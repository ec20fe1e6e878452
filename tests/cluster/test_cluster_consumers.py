"""Consumers as the chart makes them: pods beside the slots that predict for the entries of a Redis stream.

The redis-server runs on this machine, which the cluster's pods must reach.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from cluster.kube import CHART, EXAMPLES, Namespace, Object, Release, Values, eventually
from consuming.brokers import RedisProcess

# The image with the sample models and the extra `redis`.
REPOSITORY, _, TAG = os.environ.get("TEST_CONSUMER_IMAGE", "").rpartition(":")
ROW, MODEL = b"[5.1, 3.5, 1.4, 0.2]", "iris@1"
pytestmark = pytest.mark.skipif(not TAG, reason="set TEST_CONSUMER_IMAGE")
_REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
    print("yes")
except OSError:
    print("no")
"""


def own_address(namespace: Namespace) -> str:
    """This machine's address as the node sees it."""
    addresses = namespace.list("nodes")[0]["status"]["addresses"]
    node = next(each["address"] for each in addresses if each["type"] == "InternalIP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((node, 9))
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def redis(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A redis-server that pods can reach."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"), own_address(namespace))
    try:
        if namespace.client().python(_REACH, server.host, str(server.port)).strip() != "yes":
            pytest.skip("the cluster's pods cannot reach this machine")
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def consuming(namespace: Namespace, redis: RedisProcess) -> Iterator[Release]:
    """A release with one pod that serves, and two that consume."""
    image: Values = {"image": {"repository": REPOSITORY, "tag": TAG}}
    streaming = {
        "enabled": True,
        "source": f"{redis.url}/rows",
        "sink": f"{redis.url}/scores",
        "deadLetter": "rows-dead",
        "replicas": 2,
    }
    release = Release(namespace, "rows")
    values: Values = {"slotDefaults": image, "slots": {"blue": {"image": {"tag": TAG}}}, "streaming": streaming}
    words = ("install", release.name, str(CHART), "--wait", "--timeout=150s")
    small = {"slotDefaults": {"resources": {"requests": {"cpu": "50m", "memory": "160Mi"}}}}
    release.helm(*words, values=[EXAMPLES / "quickstart.yaml", small, values])
    yield release
    release.remove()


def consumers(release: Release) -> list[Object]:
    """The pods that consume and are not on their way out."""
    found = release.namespace.list("pods", f"app.kubernetes.io/instance={release.name}")
    label = "app.kubernetes.io/component"
    pods = [pod for pod in found if pod["metadata"]["labels"].get(label) == "streaming"]
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def test_entries_become_predictions_while_a_pod_is_deleted(consuming: Release, redis: RedisProcess) -> None:
    client, namespace = redis.client, consuming.namespace
    for at in range(2000):
        client.xadd("rows", {"key": str(at), "value": b"[1]" if at % 100 == 7 else ROW})
        if at == 1000:
            eventually(lambda: client.xlen("scores") > 0, "the first predictions", 30)
            victim = consumers(consuming)[0]["metadata"]["name"]
            namespace.kubectl("delete", "pod", victim, "--wait=true", "--timeout=60s")
    eventually(lambda: client.xlen("scores") >= 1980 and client.xlen("rows-dead") >= 20, "every entry is done", 60)
    scores, dead = ([fields for _, fields in redis.entries(name)] for name in ("scores", "rows-dead"))
    assert {int(fields[b"key"]) for fields in scores} == {at for at in range(2000) if at % 100 != 7}
    assert {int(fields[b"key"]) for fields in dead} == {at for at in range(2000) if at % 100 == 7}
    assert (len(scores), len(dead)) == (1980, 20)  # the pod that was deleted had committed its batch
    assert {fields[b"berth-model"] for fields in scores} == {MODEL.encode()}
    assert client.xpending("rows", "berth-iris")["pending"] == 0
    eventually(lambda: len(client.xinfo_consumers("rows", "berth-iris")) == 2, "the deleted pod has left the group", 30)


def test_consumers_stand_behind_no_service(consuming: Release) -> None:
    addresses = {pod["status"]["podIP"] for pod in consumers(consuming)}
    served = set()
    for each in consuming.namespace.list("endpointslices"):
        served |= {address for endpoint in each["endpoints"] or [] for address in endpoint["addresses"]}
    assert len(addresses) == 2
    assert served
    assert not addresses & served
