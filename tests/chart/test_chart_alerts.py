"""The alerts in promtool's simulation: each fires in time, resolves, and is silent otherwise."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import BOTH, Helm, Values, overlay

ALERTS = ("BerthDrift", "BerthPredictionDrift", "BerthQuality", "BerthUnusualInputs")
COMMON = 'namespace="shop",pod="iris-berth-blue-1",slot="blue",model="iris",version="1"'
UNUSUAL = {"feature": "width", "kind": "above"}


def series(name: str, values: str, pod: str = "iris-berth-blue-1", **labels: str) -> dict[str, str]:
    """One series of a pod, a value a minute."""
    own = "".join(f',{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{COMMON.replace('iris-berth-blue-1', pod)}{own}}}", "values": values}


def drift(psi: str, feature: str, threshold: str = "0.25x300") -> list[dict[str, str]]:
    """What one feature exports."""
    return [
        series("berth_drift_psi", psi, feature=feature),
        series("berth_drift_threshold", threshold, feature=feature),
    ]


def firing(
    helm: Helm,
    folder: Path,
    given: list[dict[str, str]],
    minute: int,
    change: Values,
    alerts: Sequence[str] = ALERTS,
) -> dict[str, Any]:
    """The labels of these alerts that fire in this minute, by alert, as promtool finds them."""
    values = overlay(BOTH, {"prometheusRule": {"enabled": True}, "slotDefaults": {"watch": change}})
    spec = helm.objects(values)["PrometheusRule/iris-berth"]["spec"]
    rules = [rule for rule in spec["groups"][0]["rules"] if rule["alert"] in alerts]
    assert [rule["alert"] for rule in rules] == sorted(alerts)
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "berth", "rules": rules}]}))
    # promtool only compares: a query that counts what fires shows it in the failure of an expectation.
    query = 'count by (alertname, feature, kind, experiment, arm) (ALERTS{alertstate="firing"})'
    asked = {"expr": query, "eval_time": f"{minute}m", "exp_samples": [{"labels": "none", "value": -1}]}
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [asked]}
    case = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (folder / "case.yaml").write_text(yaml.safe_dump(case))
    done = subprocess.run(
        ["promtool", "test", "rules", str(folder / "case.yaml")], capture_output=True, text=True, check=False
    )
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.strip().startswith("got:")]
    assert len(found) == 1, done.stdout + done.stderr
    return {alert: found[0] for alert in alerts if f'alertname="{alert}"' in found[0]}


def labels(right: str, wrong: str, reference: str = "0.9x300") -> list[dict[str, str]]:
    """What feedback exports."""
    return [
        series("berth_feedback_total", right, result="right"),
        series("berth_feedback_total", wrong, result="wrong"),
        series("berth_feedback_reference", reference, metric="accuracy"),
    ]


pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
ABOVE, BELOW = "0.3x300", "0.2x300"
ENOUGH, FEW = series("berth_drift_rows", "6000x300"), series("berth_drift_rows", "99x300")
# 6,000 rows an hour are 100 a minute: two unusual ones a minute are 2 %, one in five minutes 0.2 %.
MANY, SOME = "0+2x300", "0+0.2x300"
HOUR: Values = {}
# After a first minute without labels, as counted by a server that has just started.
NONE, EIGHTY, NINETY, HUNDRED = "0x300", "0 80x300", "0 90x300", "0 100x300"


@pytest.mark.parametrize(
    ("given", "minute", "change", "alerts"),
    [
        (drift(ABOVE, "width"), 59, HOUR, []),
        (drift(ABOVE, "width"), 61, HOUR, ["BerthDrift"]),
        (drift(BELOW, "width"), 200, HOUR, []),
        (drift("0.3x100 0.2x200", "width"), 99, HOUR, ["BerthDrift"]),
        (drift("0.3x100 0.2x200", "width"), 102, HOUR, []),
        (drift(ABOVE, "width", "0.4x300"), 200, HOUR, []),
        (drift(ABOVE, "width"), 3, {"minutes": 2}, ["BerthDrift"]),
        (drift(ABOVE, "prediction"), 59, HOUR, []),
        (drift(ABOVE, "prediction"), 61, HOUR, ["BerthPredictionDrift"]),
        (drift("0.3x100 0.2x200", "prediction"), 102, HOUR, []),
        ([series("berth_unusual_values_total", MANY, **UNUSUAL), ENOUGH], 100, HOUR, ["BerthUnusualInputs"]),
        ([series("berth_unusual_values_total", SOME, **UNUSUAL), ENOUGH], 100, HOUR, []),
        ([series("berth_unusual_values_total", MANY, **UNUSUAL), FEW], 100, HOUR, []),
        ([series("berth_unusual_values_total", "0+2x100 200x200", **UNUSUAL), ENOUGH], 180, HOUR, []),
        (labels("0 160x300", EIGHTY), 15, HOUR, []),
        (labels("0 160x300", EIGHTY), 20, HOUR, ["BerthQuality"]),
        (labels("0 160x60 4000x200", EIGHTY), 60, HOUR, ["BerthQuality"]),
        (labels("0 160x60 4000x200", EIGHTY), 65, HOUR, []),
        (labels(NINETY, HUNDRED), 60, HOUR, []),  # 190 labels
        (labels("0 175x300", "0 25x300"), 60, HOUR, []),  # 0.875 of 200 may be chance
        (labels("0 8700x300", "0 1300x300"), 60, HOUR, []),  # certain, but by 0.03 only
        (labels("0 8300x300", "0 1700x300"), 60, HOUR, ["BerthQuality"]),
        (labels("0 160x300", EIGHTY)[:2], 60, HOUR, []),  # without a reference
        (labels(NONE, "0 300x300"), 60, HOUR, ["BerthQuality"]),
        (labels("0 300x300", NONE), 60, HOUR, []),
    ],
)
def test_each_fires_and_resolves(
    helm: Helm, tmp_path: Path, given: list[dict[str, str]], minute: int, change: Values, alerts: list[str]
) -> None:
    assert sorted(firing(helm, tmp_path, given, minute, change)) == alerts


def test_unusual_inputs_are_those_of_all_pods(helm: Helm, tmp_path: Path) -> None:
    """One pod in four sends 2 % unusual values: all of them together have 0.5 %."""
    calm = [series("berth_drift_rows", "6000x300", pod=f"iris-berth-blue-{at}") for at in (2, 3, 4)]
    given = [series("berth_unusual_values_total", MANY, **UNUSUAL), ENOUGH, *calm]
    assert firing(helm, tmp_path, given, 100, HOUR) == {}


def test_rules_stay_valid_where_nothing_is_watched(helm: Helm, tmp_path: Path) -> None:
    assert firing(helm, tmp_path, drift(BELOW, "width"), 100, {"minutes": 0}) == {}


def requests(values: str, status: str, model: str = "iris") -> dict[str, str]:
    """Requests of a model, by status."""
    return series("berth_requests_total", values, protocol="predict", status=status, of=model)


def rejections(values: str) -> dict[str, str]:
    """Requests that were turned away."""
    return series("berth_rejected_total", values, reason="overloaded")


@pytest.mark.parametrize(
    ("given", "minute", "fires"),
    [
        # One rejection, of a model that had no other request: the share is of all requests.
        ([rejections("0 1x60"), requests("0 1x60", "429"), requests("0+60x60", "200", "other")], 20, False),
        # Nor is one of two requests an overload.
        ([rejections("0x9 1x60"), requests("0x9 1x60", "429"), requests("0x9 1x60", "200")], 14, False),
        ([rejections("0+2x60"), requests("0+2x60", "429"), requests("0+98x60", "200")], 20, True),
        ([rejections("0+2x20 40x40"), requests("0+2x20 40x40", "429"), requests("0+98x60", "200")], 30, False),
        ([rejections("0x60"), requests("0x60", "429"), requests("0+98x60", "200")], 20, False),
    ],
)
def test_overload_is_a_share_of_enough_requests(
    helm: Helm, tmp_path: Path, given: list[dict[str, str]], minute: int, fires: bool
) -> None:
    assert bool(firing(helm, tmp_path, given, minute, HOUR, ["BerthOverloaded"])) is fires


SPLIT = {"experiment": "q4"}
WORSE = {"experiment": "q4", "arm": "iris@2", "bound": "high"}
NOBODY: Values = {}


@pytest.mark.parametrize(
    ("given", "minute", "alerts"),
    [
        ([series("berth_experiment_split_p", "0.0002x60", **SPLIT)], 9, []),
        ([series("berth_experiment_split_p", "0.0002x60", **SPLIT)], 11, ["BerthSampleRatio"]),
        ([series("berth_experiment_split_p", "0.002x60", **SPLIT)], 60, []),
        ([series("berth_experiment_split_p", "0.0002x20 0.5x60", **SPLIT)], 40, []),
        ([series("berth_experiment_difference", "-0.01x60", **WORSE)], 9, []),
        ([series("berth_experiment_difference", "-0.01x60", **WORSE)], 11, ["BerthArmWorse"]),
        ([series("berth_experiment_difference", "0.01x60", **WORSE)], 60, []),
        ([series("berth_experiment_difference", "-0.01x60", **WORSE | {"bound": "low"})], 60, []),
    ],
)
def test_experiments_are_watched(
    helm: Helm, tmp_path: Path, given: list[dict[str, str]], minute: int, alerts: list[str]
) -> None:
    known = ("BerthArmWorse", "BerthSampleRatio")
    assert sorted(firing(helm, tmp_path, given, minute, NOBODY, known)) == alerts


@pytest.mark.parametrize(
    ("restarts", "minute", "fires"),
    [("0 1x60", 10, False), ("0 1 2 3x60", 6, True), ("0 1 2 3x60", 25, False), ("0+0.1x60", 50, False)],
    ids=["one", "three", "three long ago", "now and then"],
)
def test_a_server_that_restarts_again_and_again(
    helm: Helm, tmp_path: Path, restarts: str, minute: int, fires: bool
) -> None:
    given = [series("kube_pod_container_status_restarts_total", restarts, container="berth")]
    assert bool(firing(helm, tmp_path, given, minute, HOUR, ["BerthRestarting"])) is fires
