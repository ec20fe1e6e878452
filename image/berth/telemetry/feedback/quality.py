"""What labels say of a model: counts of one server or of many, and accuracy, MAE, RMSE and reward from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from berth.telemetry.feedback.intervals import Z99, Estimate, estimate_mean, estimate_share

Sample = tuple[str, Mapping[str, str], float]
ACCURACY, MAE = "accuracy", "mae"
# Fewer labels allow no verdict.
LEAST_LABELS = 200
# A drop of so much is of no consequence, however certain it is: of accuracy in points, of the error in parts of it.
_MARGIN, _ERROR_MARGIN = 0.05, 0.1
# Which of a report's counts a metric's sample is, besides the results, the confusions and the histogram.
_COUNTS = {
    "berth_feedback_error_sum": "error_sum",
    "berth_feedback_squared_error_sum": "error_squares",
    "berth_feedback_squared_error_count": "error_rows",
    "berth_feedback_reward_sum": "reward_sum",
    "berth_feedback_reward_count": "reward_rows",
    "berth_feedback_delay_seconds_sum": "delay_seconds_sum",
    "berth_feedback_delay_seconds_count": "delay_rows",
}


def read_reference(metadata: Mapping[str, Any]) -> dict[str, float]:
    """The figures that a version was added with, in `metadata.metrics`; what is no number is left out."""
    metrics = metadata.get("metrics")
    found = {name: metrics.get(name) for name in (ACCURACY, MAE)} if isinstance(metrics, dict) else {}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    }


def is_worse_share(right: float, rows: float, reference: float) -> bool:
    """Whether a share is surely below the reference, and may be more than the margin below it."""
    found = estimate_share(right, rows, Z99)
    return found.high < reference and found.low < reference - _MARGIN


def is_worse_error(count: float, total: float, squares: float, reference: float) -> bool:
    """Whether a mean error is surely above the reference, and may be more than the margin above it."""
    found = estimate_mean(count, total, squares, Z99)
    return found.low > reference and found.high > reference * (1 + _ERROR_MARGIN)


def judge(report: Mapping[str, Any]) -> bool | None:
    """Whether the model is worse than its reference; None without one, or with too few labels."""
    reference, rows = report["reference"], report["right"] + report["wrong"]
    if ACCURACY in reference and rows >= LEAST_LABELS:
        return is_worse_share(report["right"], rows, reference[ACCURACY])
    if MAE in reference and report["error_rows"] >= LEAST_LABELS:
        sums = report["error_rows"], report["error_sum"], report["error_squares"]
        return is_worse_error(*sums, reference[MAE])
    return None


def _empty(model: str, version: str) -> dict[str, Any]:
    counts = dict.fromkeys(("right", "wrong", *_COUNTS.values()), 0)
    return {"model": model, "version": version, "reference": {}, **counts, "confusion": Counter(), "errors": Counter()}


def _count_sample(report: dict[str, Any], name: str, labels: Mapping[str, str], value: float) -> None:
    count = int(value) if value == int(value) else value
    if name == "berth_feedback_total":
        report[labels["result"]] += count
    elif name == "berth_feedback_confusion_total":
        report["confusion"][labels["predicted"], labels["truth"]] += count
    elif name == "berth_feedback_error_bucket":
        report["errors"][labels["le"]] += count
    elif name == "berth_feedback_reference":
        report["reference"][labels["metric"]] = value
    elif name in _COUNTS:
        report[_COUNTS[name]] += count


def _finish(report: dict[str, Any]) -> dict[str, Any]:
    """The report with the figures that follow from its counts; null where there are no labels for one."""
    rows, errors = report["right"] + report["wrong"], report["error_rows"]
    root = math.sqrt(report["error_squares"] / errors) if errors else None
    found: dict[str, Estimate | None] = {
        ACCURACY: estimate_share(report["right"], rows) if rows else None,
        MAE: estimate_mean(errors, report["error_sum"], report["error_squares"]) if errors else None,
    }
    figures = {name: estimate and estimate.describe() for name, estimate in found.items()}
    reward = report["reward_sum"] / report["reward_rows"] if report["reward_rows"] else None
    delay = report["delay_seconds_sum"] / report["delay_rows"] if report["delay_rows"] else None
    more = {"labels": rows + errors, "rmse": root, "reward": reward, "delay_seconds": delay, "worse": judge(report)}
    return {**report, **figures, **more}


def _list_counters(report: dict[str, Any]) -> dict[str, Any]:
    confusion = [
        {"predicted": predicted, "truth": truth, "rows": rows}
        for (predicted, truth), rows in sorted(report["confusion"].items())
    ]
    errors = [
        {"up_to": None if bound == "+Inf" else float(bound), "rows": rows} for bound, rows in report["errors"].items()
    ]
    return {**report, "confusion": confusion, "errors": errors}


def describe_quality(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Each model's report, from the samples of the feedback metrics: those with labels, rewards or a reference."""
    reports: dict[tuple[str, str], dict[str, Any]] = {}
    for name, labels, value in samples:
        key = labels["model"], labels["version"]
        _count_sample(reports.setdefault(key, _empty(*key)), name, labels, value)
    return [_finish(_list_counters(report)) for _, report in sorted(reports.items())]


def _sum_rows(lists: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Lists of objects with `rows`, added up where the rest of the object is equal; in the order in which they come."""
    sums: dict[tuple[tuple[str, Any], ...], int] = {}
    for each in (each for listed in lists for each in listed):
        key = tuple((name, value) for name, value in each.items() if name != "rows")
        sums[key] = sums.get(key, 0) + each["rows"]
    return [{**dict(key), "rows": rows} for key, rows in sums.items()]


def add_quality(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reports of several pods on one model as one: counts are added, figures made again."""
    first = reports[0]
    counts = {name: sum(report[name] for report in reports) for name in ("right", "wrong", *_COUNTS.values())}
    lists = {name: _sum_rows(report[name] for report in reports) for name in ("confusion", "errors")}
    return _finish({**first, **counts, **lists})
