"""Streams of rows on a cluster: row by row through the Service and through Traefik, slow readers, ends, and the drain.

Traefik, like every proxy of Go's standard library, sends a response over HTTP/1.1 only when the request is whole, and
drops what it has not sent on by then, unless the client says that it closes the connection. A proxy that keeps requests
until they are whole is another case: an Ingress of the class `nginx` with ingress-nginx's defaults.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.kube import EXAMPLES, Namespace, Object, Release, Values, eventually

SCRIPT = (Path(__file__).parent / "stream_client.py").read_text("utf-8")
PATHS = [{"path": "/", "pathType": "Prefix"}]
INGRESS, ROUTE, KEEPS, PASSES = "rows.example", "route.example", "keeps.example", "passes.example"
_BUFFERING = [f"nginx.ingress.kubernetes.io/{name}" for name in ("proxy-request-buffering", "proxy-buffering")]
VALUES: Values = {
    "slotDefaults": {"config": {"workers": 1, "maxBodyBytes": 100_000}, "drainSeconds": 2},
    "ingress": {"enabled": True, "className": "traefik", "hosts": [{"host": INGRESS, "paths": PATHS}]},
    "httpRoute": {
        "enabled": True,
        "parentRefs": [{"name": "traefik", "namespace": "traefik"}],
        "hostnames": [ROUTE],
    },
}


def nginx_ingress(service: str, host: str, annotations: dict[str, str]) -> Object:
    """An Ingress for a controller that reads ingress-nginx's annotations."""
    backend = {"service": {"name": service, "port": {"name": "http"}}}
    rule = {"host": host, "http": {"paths": [{**PATHS[0], "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": host.replace(".", "-"), "annotations": annotations},
        "spec": {"ingressClassName": "nginx", "rules": [rule]},
    }


@dataclass(frozen=True)
class Ways:
    """A release of one pod, and the addresses by which it can be reached: (host, Host)."""

    release: Release
    addresses: dict[str, tuple[str, str]]

    def arguments(self, kind: str, way: str, rows: int, connection: str = "close") -> list[str]:
        """Those of stream_client.py."""
        host, name = self.addresses[way]
        return [kind, host, "80", name, str(rows), connection]

    def stream(self, kind: str, way: str, rows: int = 10, connection: str = "close") -> Any:
        """What became of a stream."""
        arguments = self.arguments(kind, way, rows, connection)
        return json.loads(self.release.namespace.client().python(SCRIPT, *arguments))

    def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's series that have the labels, as `name="value"`."""
        text = self.release.namespace.client().ask(f"{self.release.url}/metrics").text
        lines = (line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in labels))


@pytest.fixture(scope="module")
def ways(namespace: Namespace) -> Iterator[Ways]:
    """A release behind a Service and, where the cluster has Traefik, an Ingress and an HTTPRoute."""
    services = namespace.cluster.kubectl("get services --all-namespaces", selector="")
    found = [each["metadata"] for each in services if each["metadata"]["name"] == "traefik"]
    release = Release(namespace, "rows")
    release.install(EXAMPLES / "quickstart.yaml", VALUES if found else {"slotDefaults": VALUES["slotDefaults"]})
    addresses = {"service": (release.full, release.full)}
    if found:
        proxy = f"{found[0]['name']}.{found[0]['namespace']}"
        namespace.apply(
            nginx_ingress(release.full, KEEPS, dict.fromkeys(_BUFFERING, "on")),
            nginx_ingress(release.full, PASSES, dict.fromkeys(_BUFFERING, "off")),
        )
        names = {"ingress": INGRESS, "route": ROUTE, "keeps": KEEPS, "passes": PASSES}
        addresses |= {way: (proxy, name) for way, name in names.items()}
    client = namespace.client()

    def answers(host: str, name: str) -> bool:
        return client.ask(f"http://{host}/readyz", None, {"Host": name}).status == 200

    for host, name in addresses.values():
        eventually(partial(answers, host, name), f"{name} answers")
    yield Ways(release, addresses)
    release.remove()


def need(ways: Ways, way: str) -> None:
    """Skip where the cluster has no such way."""
    if way not in ways.addresses:
        pytest.skip("no Service named traefik: no ingress controller that this test knows")


@pytest.mark.parametrize("way", ["service", "ingress", "route", "passes"])
def test_every_line_comes_before_the_next_row_is_sent(ways: Ways, way: str) -> None:
    need(ways, way)
    found = ways.stream("turns", way, 20)
    print(way, found)
    assert (found["status"], found["answered"], found["rest"]) == (200, 20, 0)


@pytest.mark.parametrize(("way", "connection"), [("keeps", "close"), ("ingress", "")])
def test_what_keeps_requests_stops_them(ways: Ways, way: str, connection: str) -> None:
    need(ways, way)
    assert ways.stream("turns", way, 20, connection)["answered"] == 0


def test_the_service_needs_no_header(ways: Ways) -> None:
    assert ways.stream("turns", "service", 20, "")["answered"] == 20


@pytest.mark.parametrize("way", ["service", "ingress"])
def test_a_reader_that_stops_for_a_while_gets_every_line_and_stops_nobody(ways: Ways, way: str) -> None:
    need(ways, way)
    found = ways.stream("slow", way, 3_000_000)
    print(way, found)
    assert found["stopped"]
    assert (found["status"], found["lines"], found["beside"]) == (200, found["sent"], {"200": 20})


@pytest.mark.parametrize("way", ["service", "ingress"])
def test_a_stream_that_is_left_leaves_nothing_behind(ways: Ways, way: str) -> None:
    need(ways, way)
    for _ in range(3):
        assert ways.stream("leave", way, 5000)["status"] == 200
    eventually(lambda: ways.metric("berth_inflight") == 0, "nothing is in flight", 15)
    assert ways.stream("turns", way, 2)["answered"] == 2


@pytest.mark.parametrize("way", ["service", "ingress"])
def test_rows_are_counted_and_lines_limited(ways: Ways, way: str) -> None:
    need(ways, way)
    before = ways.metric("berth_predictions_total"), ways.metric("berth_requests_total", 'protocol="stream"')
    assert ways.stream("turns", way, 7)["answered"] == 7
    assert ways.stream("long", way)["lines"] == ["predicted", "body_too_large", "predicted"]

    def counted() -> bool:
        rows = ways.metric("berth_predictions_total") - before[0]
        return rows == 9 and ways.metric("berth_requests_total", 'protocol="stream"') - before[1] >= 8

    eventually(counted, "nine rows are counted", 15)


def test_a_worker_takes_32_streams(ways: Ways) -> None:
    assert ways.stream("crowd", "service", 34)["statuses"] == {"200": 32, "429": 2}


@pytest.mark.parametrize("way", ["service", "ingress"])
def test_a_pod_that_is_deleted_says_where_to_continue(ways: Ways, way: str) -> None:
    need(ways, way)
    namespace, client = ways.release.namespace, ways.release.namespace.client()
    before = ways.metric("berth_predictions_total")
    process = client.start(SCRIPT, *ways.arguments("resume", way, 500))
    eventually(lambda: ways.metric("berth_predictions_total") > before, "the stream has begun", 10)
    (pod,) = ways.release.pods("blue")
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    found = json.loads(out)
    print(way, found)
    assert found["done"] == 500
    assert found["ends"][0] == "not_ready"
    assert "no end" not in found["ends"]
    ways.release.ready("blue")
