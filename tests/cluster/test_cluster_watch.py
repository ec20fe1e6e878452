"""Watching on two pods: each alert fires and resolves in a real Prometheus, and the pods' counts are added up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from sklearn.datasets import load_iris

from cluster.kube import CHART, EXAMPLES, Client, Namespace, Release, Values, eventually

QUICKSTART = EXAMPLES / "quickstart.yaml"
LOAD = (Path(__file__).parent / "watching_load.py").read_text("utf-8")
PROMETHEUS = "http://prometheus.monitoring:9090"
WATCHED: Values = {
    "slotDefaults": {"replicas": 2, "scrapeAnnotations": True, "watch": {"minutes": 2}},
    "feedback": {"existingSecret": "receipts"},
}
ALERTS = {"BerthDrift", "BerthPredictionDrift", "BerthUnusualInputs", "BerthQuality"}
# Right labels by the hundred thousand: the day's accuracy recovers.
RIGHT = """
import json, sys, urllib.request
label = {"model": "iris", "version": "1", "prediction": [0] * 1000, "truth": [0] * 1000}
body = json.dumps([label] * 50).encode()
for _ in range(10):
    request = urllib.request.Request(sys.argv[1] + "/feedback", body, {"Content-Type": "application/json"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).read()
"""
ROWS = json.dumps(load_iris().data.tolist())


def read_rules(release: Release) -> dict[str, Any]:
    """The chart's rules for the four alerts; those that wait longer than a window wait a minute here."""
    flags = ["-s", "templates/prometheusrule.yaml", "--set", "prometheusRule.enabled=true"]
    done = release.try_helm("template", release.name, str(CHART), *flags, values=[QUICKSTART, WATCHED])
    assert done.returncode == 0, done.stderr
    (group,) = yaml.safe_load(done.stdout)["spec"]["groups"]
    rules = [rule for rule in group["rules"] if rule["alert"] in ALERTS]
    assert {rule["alert"] for rule in rules} == ALERTS
    for rule in rules:
        rule["for"] = {"BerthQuality": "1m", "BerthUnusualInputs": "1m"}.get(rule["alert"], rule["for"])
        assert rule["for"] in ("1m", "2m")
    return {"groups": [{**group, "rules": rules}]}


@pytest.fixture
def rules(release: Release) -> Iterator[Client]:
    """The rules loaded into the cluster's Prometheus, and a pod that can query it."""
    monitoring = Namespace(release.namespace.cluster, "monitoring")
    if monitoring.try_kubectl("get", "service", "prometheus").returncode:
        pytest.skip("no Prometheus in the namespace monitoring")
    client = release.namespace.client()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus-rules"}}
    monitoring.apply({**config, "data": {"berth.yaml": yaml.safe_dump(read_rules(release))}})

    def loaded() -> bool:
        client.ask(f"{PROMETHEUS}/-/reload", body={})
        groups = client.ask(f"{PROMETHEUS}/api/v1/rules").json()["data"]["groups"]
        return {rule["name"] for group in groups for rule in group["rules"]} >= ALERTS

    try:
        eventually(loaded, "Prometheus has the rules", 150)
        yield client
    finally:
        monitoring.try_kubectl("delete", "configmap", "prometheus-rules")


def firing(client: Client, namespace: str) -> set[str]:
    """The alerts of this namespace that fire."""
    alerts = client.ask(f"{PROMETHEUS}/api/v1/alerts").json()["data"]["alerts"]
    own = [alert for alert in alerts if alert["labels"].get("namespace") == namespace]
    return {alert["labels"]["alertname"] for alert in own if alert["state"] == "firing"}


@contextmanager
def watching_load(client: Client, url: str, shift: float, labels: str) -> Iterator[None]:
    """Predictions and labels while the block runs."""
    process = client.start(LOAD, url, ROWS, str(shift), labels)
    try:
        yield
    finally:
        try:
            output, errors = process.communicate("", timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    counts = json.loads(output or "{}")
    assert counts.get("failed") == 0, f"{counts} {errors}"
    assert counts["sent"] > 100


def observed(report: dict[str, Any]) -> dict[str, list[int]]:
    """The counts of every feature of iris."""
    model = next(each for each in report["models"] if each["model"] == "iris")
    return {feature["name"]: feature["observed"] for feature in model["features"]}


def sums_of_pods(client: Client, release: Release) -> dict[str, list[int]]:
    """The same, added up here over the pods' own reports."""
    pods = [pod["status"]["podIP"] for pod in release.pods("blue")]
    assert len(pods) == 2
    reports = [observed(client.ask(f"http://{address}:8000/drift").json()) for address in pods]
    assert all(sum(report["prediction"]) > 100 for report in reports)
    return {
        name: [one + other for one, other in zip(reports[0][name], reports[1][name], strict=True)]
        for name in reports[0]
    }


def berth(client: Client, *arguments: str) -> tuple[int, dict[str, Any]]:
    """`berth` in the client's pod: its exit code and what it printed as JSON."""
    done = client.namespace.try_kubectl("exec", client.name, "--", "berth", *arguments, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_alerts_fire_and_resolve_and_pods_add_up(release: Release, rules: Client) -> None:
    secret = ["create", "secret", "generic", "receipts", f"--from-literal=feedback-keys={'k' * 32}"]
    release.namespace.kubectl(*secret)
    release.install(QUICKSTART, WATCHED)
    hosts = ["--headless-host", f"{release.full}-blue-pods"]
    with watching_load(rules, release.url, 900, "wrong"):
        eventually(lambda: firing(rules, release.namespace.name) == ALERTS, "every alert fires", 330)

    def pods_add_up() -> bool:
        """Both were read between two moments at which old counts leave."""
        before = sums_of_pods(rules, release)
        code, report = berth(rules, "drift", *hosts)
        return code == 1 and observed(report) == before == sums_of_pods(rules, release)

    eventually(pods_add_up, "berth drift reports the sum of both pods", 40)
    code, report = berth(rules, "quality", *hosts)
    assert code == 1
    assert report["models"][0]["right"] == 0
    assert report["models"][0]["wrong"] == sum(
        rules.ask(f"http://{pod['status']['podIP']}:8000/quality").json()["models"][0]["wrong"]
        for pod in release.pods("blue")
    )
    with watching_load(rules, release.url, 0, "right"):
        rules.python(RIGHT, release.url)
        eventually(lambda: firing(rules, release.namespace.name) == set(), "every alert resolves", 330)
