"""Faults of the store that models are fetched from before the start: away, cut, slow, corrupt."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from cluster.api import read_log
from cluster.faults import Fault, Stopwatch
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
from cluster.load import load
from cluster.two_pods import name_of

QUICKSTART = EXAMPLES / "quickstart.yaml"
KINDS = ("away", "cut", "slow", "corrupt")
# The image's store under the name of each fault, until the file `healed` is there.
_STORE = """
import functools, http.server, os, time
class Store(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        _, kind, rest = self.path.split("/", 2)
        self.path = "/" + rest
        file = self.translate_path(self.path)
        if os.path.exists("/tmp/healed") or (not os.path.isfile(file) and kind != "away"):
            super().do_GET()
        elif kind == "away":
            self.close_connection = True
        else:
            body = bytearray(open(file, "rb").read())
            if kind == "corrupt" and not file.endswith("model.json"):
                body[len(body) // 2] ^= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            while kind == "slow" and not os.path.exists("/tmp/healed"):
                time.sleep(0.1)
            if kind != "cut":
                self.wfile.write(body[half:])
            self.close_connection = True
http.server.ThreadingHTTPServer(("", 8080), functools.partial(Store, directory="/models")).serve_forever()
"""


@pytest.fixture(scope="module")
def store(namespace: Namespace) -> Namespace:
    """A namespace with a store whose responses are faulty."""
    container = restricted_container("store", f"{REPOSITORY}:{TAG}", ["python", "-c", _STORE])
    service = {"selector": {"app": "store"}, "ports": [{"port": 80, "targetPort": 8080}]}
    namespace.apply(
        restricted_pod("store", [container], {"app": "store"}),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"}, "spec": service},
    )
    namespace.kubectl("wait", "pod/store", "--for=condition=Ready", "--timeout=60s")
    return namespace


@pytest.fixture(scope="module")
def live(namespace: Namespace) -> Iterator[Release]:
    """A release that has its models and serves."""
    release = Release(namespace, "live")
    release.install(EXAMPLES / "blue-green-1-install.yaml")
    yield release
    release.remove()


def said(release: Release) -> str:
    """The last line of a fetch that failed; else of the one that runs. The node keeps few logs of those that ended."""
    pod, space = name_of(release.pods("blue")[0]), release.namespace
    logs = [read_log(space.cluster, space.name, pod, "pull", previous).strip() for previous in (False, True)]
    lines = [log.splitlines()[-1] for log in logs if log]
    return next((line for line in lines if line.startswith("berth: ")), lines[0] if lines else "")


def has_failed(release: Release) -> bool:
    """Whether a fetch has ended with its reason."""
    return said(release).startswith("berth: ")


def is_ready(release: Release) -> bool:
    """Whether a pod of the release serves."""
    return any(status["ready"] for pod in release.pods("blue") for status in pod["status"].get("containerStatuses", []))


def test_a_store_that_is_away_cut_slow_or_corrupt(store: Namespace, live: Release) -> None:
    releases = {kind: Release(store, kind) for kind in KINDS}
    try:
        with load(store.client(), live.url) as counts:
            for kind, release in releases.items():
                model: Values = {"slotDefaults": {"model": {"source": "init", "uri": f"http://store/{kind}"}}}
                release.apply_chart(QUICKSTART, model)
            for kind in ("away", "cut", "corrupt"):
                eventually(partial(has_failed, releases[kind]), f"{kind}: the reason is named", 60)
            for kind, release in releases.items():
                print(f"{kind}: {said(release)}")
                assert "Traceback" not in said(release)
                assert not is_ready(release), kind
            watch = Stopwatch()
            store.kubectl("exec", "store", "--", "touch", "/tmp/healed")
            for kind, release in releases.items():
                eventually(partial(is_ready, release), f"{kind}: it serves", 90)
            seconds = watch.seconds
            for release in releases.values():
                assert store.client().ask(f"{release.url}/predict", FLOWER).json()["prediction"] == [0]
    finally:
        for release in releases.values():
            release.remove()
    promise = "not ready, the reason named; others 0 failed"
    Fault("11", "the store is away, cut, slow or corrupt at the start", promise).record(counts, seconds)
    assert counts["failed"] == 0, counts["faults"]
