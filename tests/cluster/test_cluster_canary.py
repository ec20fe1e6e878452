"""A canary under load, through a Gateway: one that fails two requests of a hundred fails the upgrade.

A healthy one passes step by step; without requests nothing is concluded.
"""

from __future__ import annotations

import json
import shutil
import time

import pytest

from cluster.kube import CHART, FLOWER, REPOSITORY, TAG, Client, Release, Values, eventually, restricted_pod
from cluster.kube import restricted_container as container
from cluster.load import load
from image.scripts import ci

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not on PATH")
# Two versions of one model, of which the second raises for two rows of a hundred, once it is warm.
FILL = """
import os, pathlib, subprocess
for version, share in (("1", 0.0), ("2", 0.02)):
    folder = pathlib.Path(f"/tmp/{version}")
    folder.mkdir()
    (folder / "model.py").write_text(f'''
import itertools, random

def load(directory):
    calls = itertools.count()
    def predict(inputs):
        if next(calls) > 100 and random.random() < {share}:
            raise RuntimeError("no such row")
        return {{"prediction": inputs["x"][:, 0]}}
    return predict
''')
    options = ["--name", "rows", "--version", version, "--format", "python", "--input", "x:FP64:-1,4"]
    command = ["berth", "add", str(folder), *options, "--store", "/store"]
    subprocess.run(command, check=True, env={**os.environ, "BERTH_ALLOW_CODE": "true"})
"""
SECONDS, SHARE = 10, 50
VALUES: Values = {
    "slotDefaults": {
        "replicas": 1,
        "drainSeconds": 2,
        "config": {"allowCode": True},
        "model": {
            "name": "rows",
            "source": "pvc",
            "existingClaim": "models",
            "claim": {"accessModes": ["ReadWriteMany"]},
        },
    },
    "slots": {
        "blue": {"mode": "serve", "model": {"version": 1}},
        "green": {"mode": "serve", "model": {"version": 2}},
    },
    "gate": {"enabled": False, "request": FLOWER},
    "verify": {"connections": 2},
    # Two pods on one busy node have tails of their own: only errors are judged.
    "canary": {"analysis": {"enabled": True, "seconds": SECONDS, "minRequests": 150, "maxLatencyRatio": 0}},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "traefik", "namespace": "traefik"}]},
}
ROUTE = "http://traefik.traefik"


@pytest.fixture
def canary(release: Release) -> Release:
    """Both slots serve, and all of the route's traffic goes to blue."""
    namespace = release.namespace
    if namespace.try_kubectl("get", "gateway", "traefik", "-n", "traefik").returncode:
        pytest.skip("no Gateway traefik in the namespace traefik")
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "64Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": spec}
    mounts = [{"name": "store", "mountPath": "/store"}]
    filler = container("fill", f"{REPOSITORY}:{TAG}", ["python", "-c", FILL], volumeMounts=mounts)
    volumes = [{"name": "store", "persistentVolumeClaim": {"claimName": "models"}}]
    namespace.apply(claim, restricted_pod("fill", [filler], restartPolicy="Never", volumes=volumes))
    namespace.kubectl("wait", "pod/fill", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    release.install(VALUES)
    return release


def weigh(release: Release, *changes: Values) -> tuple[bool, str]:
    """An upgrade that gives green its share: whether it succeeds, and what helm prints."""
    flags = [flag for change in changes for flag in ("--set-json", json.dumps(change))]
    options = ("--reset-then-reuse-values", f"--set=canary.weight={SHARE}", "--timeout=100s", *flags)
    done = release.try_helm("upgrade", release.name, str(CHART), *options)
    return done.returncode == 0, (done.stdout + done.stderr).replace("\\n", "\n")


def requests_of(client: Client, release: Release, slot: str) -> float:
    """The predictions that a slot's pods have counted."""
    total = 0.0
    for pod in release.pods(slot):
        text = client.ask(f"http://{pod['status']['podIP']}:8000/metrics").text
        total += sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("berth_requests_total"))
    return total


def check_taken_back(client: Client, release: Release) -> None:
    """Ten seconds after the command that takes the weight back, nothing reaches green."""
    time.sleep(10)
    before = requests_of(client, release, "green")
    time.sleep(2)
    assert requests_of(client, release, "green") == before


def test_a_canary_is_analysed_under_load(canary: Release) -> None:
    client = canary.namespace.client()
    eventually(lambda: client.ask(f"{ROUTE}/predict", FLOWER).slot == "blue", "the Gateway has the route", 30)
    with load(client, ROUTE, allowed=10**6) as counts:
        passed, told = weigh(canary)
        assert not passed
        (reason,) = (line for line in told.splitlines() if "REFUSED: the canary in slot green is worse: errors" in line)
        assert f"`helm rollback iris -n {canary.namespace.name}`" in reason
        assert "blue (live)" in told
        canary.helm("rollback", canary.name, "--timeout=100s")
        check_taken_back(client, canary)
    print(told)
    # What failed are the rows that the model raised for, and they are about two of a hundred of green's.
    statuses = counts["statuses"]
    assert set(statuses) == {"200", "500"}
    assert 0.005 < statuses["500"] / (statuses["500"] + counts["slots"]["green"]) < 0.04

    # The same model as blue's is healthy: step by step, and then back.
    healthy = json.dumps({"slots": {"green": {"model": {"version": 1}}}})
    canary.helm("upgrade", canary.name, str(CHART), "--reset-then-reuse-values", "--no-hooks", "--set-json", healthy)
    canary.ready("green")
    environ = {"RELEASE": canary.name, "NAMESPACE": canary.namespace.name, "CHART": str(CHART)}
    with load(client, ROUTE) as counts:
        assert ci("deploy", "canary", f"20,{SHARE}", environ=environ) == "green"
        time.sleep(1)
    assert counts["failed"] == 0, counts["faults"]
    assert counts["slots"]["green"] > 100

    # Nobody sends anything now.
    passed, told = weigh(canary)
    assert not passed
    assert "inconclusive after 10 s: slot green had 0 requests and slot blue had" in told
    assert weigh(canary, {"canary": {"analysis": {"inconclusive": "pass"}}})[0]
