"""Drives helm and kubectl: a namespace, a release in it, and a pod that asks from inside the cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pytest_helm_charts.clusters import Cluster

from cluster import api
from cluster.mutations import without
from cluster.turns import node_programs

ROOT = Path(__file__).resolve().parents[2]
CHART, EXAMPLES = ROOT / "chart", ROOT / "values-examples"
# An image with the sample models, iris and iris-forest, each as version 1 and 2 (ci/build-samples).
REPOSITORY, _, TAG = os.environ.get("TEST_IMAGE", "berth:dev").rpartition(":")
FLOWER = {"features": [5.1, 3.5, 1.4, 0.2]}

Object = dict[str, Any]
Values = dict[str, Any]

# What every release here gets on top of its values: the image under test, and requests that fit on a small node.
_SMALL: Values = {
    "slotDefaults": {
        "image": {"repository": REPOSITORY, "tag": TAG},
        "resources": {"requests": {"cpu": "50m", "memory": "160Mi"}},
        "strategy": {"minReadySeconds": 1},
    },
    "slots": {"blue": {"image": {"tag": TAG}}, "green": {"image": {"tag": TAG}}},
}
SMALL: Values = without(_SMALL, os.environ.get("TEST_WITHOUT", ""))


def run(command: Sequence[str], text: str = "", seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever it returns."""
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)


def eventually(look: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait until a look is true; fails with `what`."""
    until = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


def restricted_container(name: str, image: str, command: Sequence[str], **more: Any) -> Object:
    """A container that the restricted Pod Security Standard admits."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {"name": name, "image": image, "command": list(command), "securityContext": security, **more}


def restricted_pod(
    name: str, containers: Sequence[Object], labels: dict[str, str] | None = None, **spec: Any
) -> Object:
    """A pod that the restricted Pod Security Standard admits, and that ends at once when told to."""
    security = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    common = {"automountServiceAccountToken": False, "securityContext": security, "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": list(containers), **common, **spec},
    }


@dataclass(frozen=True)
class Namespace:
    """One namespace of the cluster."""

    cluster: Cluster
    name: str

    def get(self, kind: str, name: str) -> Object:
        """One object."""
        if kind in api.KINDS:
            return api.read(self.cluster, self.name, kind, name)
        found: Object = self.cluster.kubectl(f"get {kind} {name}", namespace=self.name)
        return found

    def list(self, kind: str, selector: str = "", fields: str = "") -> list[Object]:
        """All objects of a kind (or several, with commas) that have the labels and the fields."""
        if kind in api.KINDS:
            return api.read_list(self.cluster, self.name, kind, selector, fields)
        found: list[Object] = self.cluster.kubectl(f"get {kind}", namespace=self.name, selector=selector)
        return found

    def try_kubectl(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """kubectl in this namespace, whatever it returns."""
        return run(["kubectl", "-n", self.name, *arguments], text)

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """The same, which must succeed: what it printed."""
        done = self.try_kubectl(*arguments, text=text)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Make or change objects."""
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(objects))

    def client(self, name: str = "client", labels: dict[str, str] | None = None, cpu: str = "50m") -> Client:
        """A pod with Python that asks from inside the cluster, made where it is not there yet; `cpu` is its request."""
        image = f"{REPOSITORY}:{TAG}"
        # Without a request of its own it would starve first on a busy node, and count its own delays as failures.
        resources = {"requests": {"cpu": cpu, "memory": "64Mi"}}
        command = ["python", "-c", "import time; time.sleep(86400)"]
        sleeping = restricted_container("client", image, command, resources=resources)
        self.apply(restricted_pod(name, [sleeping], labels))
        self.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        return Client(self, name)


@contextmanager
def new_namespace(cluster: Cluster) -> Iterator[Namespace]:
    """A fresh namespace that enforces restricted Pod Security; deleted afterwards, without waiting for its end."""
    namespace = Namespace(cluster, f"berth-test-{uuid.uuid4().hex[:6]}")
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    namespace.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name, "labels": labels}})
    # A pod needs the account, which its controller makes a moment later.
    eventually(lambda: not namespace.try_kubectl("get", "serviceaccount", "default").returncode, "a service account")
    try:
        yield namespace
    finally:
        with node_programs():
            namespace.kubectl("delete", "pod", "--all", "--force", "--grace-period=0", "--wait=false")
            namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")


@contextmanager
def forwarded(namespace: Namespace, what: str) -> Iterator[str]:
    """The address on this machine that kubectl port-forward makes for a Service or pod."""
    command = ["kubectl", "-n", namespace.name, "port-forward", what, ":80"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, f"{what} could not be forwarded"
        yield f"http://{found[0]}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


@dataclass(frozen=True)
class Client:
    """A pod that asks from inside the cluster."""

    namespace: Namespace
    name: str

    def python(self, script: str, *arguments: str, seconds: float = 120) -> str:
        """What a Python script prints in the pod."""
        command = ["kubectl", "-n", self.namespace.name, "exec", "-i", self.name, "--", "python", "-", *arguments]
        done = run(command, script, seconds)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """The same in the background."""
        command = ["kubectl", "-n", self.namespace.name, "exec", "-i", self.name, "--", "python", "-c", script]
        pipe = subprocess.PIPE
        return subprocess.Popen([*command, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def ask(self, url: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        """One request on a connection of its own: POST with a body, GET without; status 0 where nobody answered."""
        given = json.dumps({"url": url, "body": body, "headers": headers or {}})
        return Answer(**json.loads(self.python(_ASK, given)))


@dataclass(frozen=True)
class Answer:
    """What came back: status 0 and the reason where nobody answered."""

    status: int
    slot: str
    text: str

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


_ASK = """
import json, sys, urllib.error, urllib.request
given = json.loads(sys.argv[1])
body = None if given["body"] is None else json.dumps(given["body"]).encode()
headers = {"Content-Type": "application/json"} | given["headers"]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    answer = opener.open(urllib.request.Request(given["url"], body, headers), timeout=5)
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:
    answer = None
    print(json.dumps({"status": 0, "slot": "", "text": str(error)}))
if answer is not None:
    slot = answer.headers.get("X-Berth-Slot", "")
    print(json.dumps({"status": answer.status, "slot": slot, "text": answer.read().decode()}))
"""


@dataclass(frozen=True)
class Release:
    """One release of the chart; every step returns what helm printed."""

    namespace: Namespace
    name: str

    @property
    def full(self) -> str:
        """What the names of its objects start with."""
        return f"{self.name}-berth"

    @property
    def url(self) -> str:
        """The active Service, from inside the cluster."""
        return f"http://{self.full}"

    def try_helm(self, *arguments: str, values: Sequence[Path | Values] = ()) -> subprocess.CompletedProcess[str]:
        """helm in the namespace, whatever it returns; later values win, mappings over files."""
        flags: list[str] = []
        for each in values:
            flags += ["-f", str(each)] if isinstance(each, Path) else ["--set-json", json.dumps(each)]
        return run(["helm", "-n", self.namespace.name, *arguments, *flags])

    def helm(self, *arguments: str, values: Sequence[Path | Values] = ()) -> str:
        """The same, which must succeed."""
        done = self.try_helm(*arguments, values=values)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def install(self, *values: Path | Values) -> str:
        """helm install, with all pods ready."""
        return self.apply_chart(*values, flags=("--wait", "--timeout=150s"))

    def apply_chart(self, *values: Path | Values, flags: Sequence[str] = ()) -> str:
        """helm install, and nothing waited for."""
        return self.helm("install", self.name, str(CHART), *flags, values=[*values, SMALL])

    def upgrade(self, *values: Path | Values, hooks: bool = True) -> str:
        """helm upgrade with these values and no others, without waiting for pods."""
        flags = ["--timeout=150s", *([] if hooks else ["--no-hooks"])]
        return self.helm("upgrade", self.name, str(CHART), *flags, values=[*values, SMALL])

    def refused(self, *values: Path | Values) -> str:
        """What helm prints about an upgrade that must fail, and must leave the selector alone."""
        before = self.selector()
        done = self.try_helm("upgrade", self.name, str(CHART), "--timeout=150s", values=[*values, SMALL])
        assert done.returncode != 0, f"went through: {done.stdout}"
        assert self.selector() == before
        return done.stdout + done.stderr

    def state(self) -> str:
        """What helm says of the release, such as deployed or pending-upgrade; empty where there is none."""
        done = self.try_helm("status", self.name, "-o=json")
        return str(json.loads(done.stdout)["info"]["status"]) if done.returncode == 0 else ""

    def selector(self) -> dict[str, str]:
        """Whom the active Service selects."""
        selector: dict[str, str] = self.namespace.get("service", self.full)["spec"]["selector"]
        return selector

    def active_slot(self) -> str:
        """The slot that the active Service selects."""
        return self.selector()["berth.dev/slot"]

    def ready(self, slot: str, seconds: int = 120) -> None:
        """Wait until all of a slot's pods are available."""
        self.namespace.kubectl("rollout", "status", f"deployment/{self.full}-{slot}", f"--timeout={seconds}s")

    def pods(self, slot: str) -> list[Object]:
        """The slot's pods that are not on their way out."""
        found = self.namespace.list("pods", f"app.kubernetes.io/instance={self.name},berth.dev/slot={slot}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def remove(self) -> None:
        """Uninstall, and end its pods without draining them."""
        self.try_helm("uninstall", self.name, "--ignore-not-found", "--no-hooks")
        selector = f"app.kubernetes.io/instance={self.name}"
        self.namespace.kubectl("delete", "pod", "-l", selector, "--force", "--grace-period=0")
