"""Alerts with a runbook each, dashboards, and metrics that the image really has."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import BOTH, CHART, ROOT, Helm, Values, overlay

ALERTS = sorted((CHART / "files" / "alerts").glob("*.yaml"))
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs" / "runbooks"
ON = {"enabled": True}


def rules(helm: Helm, change: Values | None = None) -> list[dict[str, Any]]:
    """The rendered alert rules."""
    values = overlay(BOTH, {"prometheusRule": {**ON, **(change or {})}})
    groups: list[dict[str, Any]] = helm.objects(values)["PrometheusRule/iris-berth"]["spec"]["groups"]
    assert len(groups) == 1
    return list(groups[0]["rules"])


@pytest.mark.parametrize("path", ALERTS, ids=lambda path: path.stem)
def test_one_file_one_alert_one_runbook(path: Path) -> None:
    rule = yaml.safe_load(path.read_text())
    words = re.findall("[A-Z][a-z]+", rule["alert"].removeprefix("Berth"))
    assert path.stem == "-".join(words).lower()
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description"}
    runbook = (RUNBOOKS / f"{rule['alert']}.md").read_text()
    assert runbook.startswith(f"# {rule['alert']}\n")
    assert "## Look" in runbook
    assert "## Do" in runbook


def test_every_runbook_belongs_to_an_alert() -> None:
    alerts = {yaml.safe_load(path.read_text())["alert"] for path in ALERTS}
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == alerts


def test_rules_are_this_releases_and_lead_to_their_runbooks(helm: Helm) -> None:
    for rule in rules(helm):
        assert 'namespace="shop"' in rule["expr"]
        assert "iris-berth" in rule["expr"]
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{rule['alert']}.md")
        assert not re.search("NAMESPACE|FULLNAME|[A-Z]+_[A-Z]+", f"{rule['expr']}{rule['annotations']}")


def test_alerts_can_be_left_out(helm: Helm) -> None:
    kept = [rule["alert"] for rule in rules(helm, {"disabled": ["BerthDrift"]})]
    assert "BerthDrift" not in kept
    assert len(kept) == len(ALERTS) - 1


def test_prometheus_takes_the_rules(helm: Helm, tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not on PATH")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "berth", "rules": rules(helm)}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def exported() -> dict[str, set[str]]:
    """The families that the image really makes, by table, each with the names of its samples."""
    drift = pytest.importorskip("berth.telemetry.metrics.drift_metrics", reason="the image's package is not installed")
    from berth.telemetry.metrics.registry import Metrics

    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    ends["summary"] = ends["histogram"][1:]
    from berth.telemetry.metrics.experiment_metrics import ExperimentCollector

    families = {"registry": Metrics().registry.collect(), "drift": drift.DriftCollector(lambda: [], "").collect()}
    families["experiments"] = ExperimentCollector(lambda: [], "").collect()
    return {
        table: {f"{family.name}{end}" for family in made for end in ends[family.type]}
        for table, made in families.items()
    }


def used_metrics() -> set[str]:
    """The metrics that alerts and dashboards query."""
    texts = [yaml.safe_load(path.read_text())["expr"] for path in ALERTS]
    for path in DASHBOARDS:
        texts += [target["expr"] for panel in json.loads(path.read_text())["panels"] for target in panel["targets"]]
    return {name for text in texts for name in re.findall(r"\bberth_[a-z_]+", text)}


def test_metrics_are_those_of_the_image() -> None:
    known = set().union(*exported().values())
    assert used_metrics() - known == set()


def test_every_drift_metric_is_used() -> None:
    watched = {"berth_unusual_values_total", "berth_watch_dropped_rows_total"} | exported()["drift"]
    assert watched - used_metrics() == set()
    assert len(watched) == 6


def test_every_feedback_metric_is_used() -> None:
    used = {re.sub("_(total|bucket|sum|count)$", "", name) for name in used_metrics()}
    made = {re.sub("_(total|bucket|sum|count)$", "", name) for name in exported()["registry"]}
    feedback = {name for name in made if name.startswith("berth_feedback")}
    assert feedback - used == set()
    assert len(feedback) == 7


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_is_whole(path: Path) -> None:
    board = json.loads(path.read_text())
    panels = board["panels"]
    variables = {each["name"] for each in board["templating"]["list"]}
    assert variables == {"datasource", "namespace", "slot", "model"}
    assert len({panel["id"] for panel in panels}) == len(panels) >= 6
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    for panel in panels:
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables | {"__rate_interval"}
            assert target["expr"].count("(") == target["expr"].count(")")


def test_dashboards_become_config_maps(helm: Helm) -> None:
    objects = helm.objects(overlay(BOTH, {"dashboards": {**ON, "annotations": {"folder": "ML"}}}))
    boards = {key: each for key, each in objects.items() if "-dashboard-" in key}
    assert len(boards) == len(DASHBOARDS) == 3
    assert len({json.loads(text)["uid"] for each in boards.values() for text in each["data"].values()}) == 3
    for each in boards.values():
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"folder": "ML"}
