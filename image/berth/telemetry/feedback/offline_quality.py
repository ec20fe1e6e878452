"""Accuracy, log loss, MAE and RMSE of labelled rows, by version, day and slice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from berth.errors import OperatorError, shown
from berth.telemetry.feedback.intervals import Estimate, estimate_mean, estimate_root, estimate_share
from berth.telemetry.feedback.labelled import LabelledRow
from berth.telemetry.feedback.quality import ACCURACY, LEAST_LABELS, MAE, is_worse_error, is_worse_share

# As many whole numbers are still classes where nothing else says so.
_MOST_CLASSES = 50
_LEAST_PROBABILITY = 1e-15
ALL_DAYS = "all"


def _parse_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def name_class(value: Any) -> str:
    """A class as text, the same for a value of JSON and for a cell of CSV: 2, 2.0 and "2" are one class."""
    if isinstance(value, bool):
        return str(value).lower()
    number = _parse_number(str(value))
    if number is not None and number == int(number):
        return str(int(number))
    text = str(value)
    return text.lower() if text.lower() in ("true", "false") else text


def has_classes(rows: Sequence[LabelledRow]) -> bool:
    """Whether a model predicts classes: it gives probabilities, or words, or few whole numbers."""
    if any(row.probabilities or isinstance(row.predicted, str | bool) for row in rows):
        return True
    numbers = {_parse_number(str(value)) for row in rows for value in (row.predicted, row.truth)}
    return len(numbers) <= _MOST_CLASSES and all(number is None or number == int(number) for number in numbers)


def find_class_order(rows: Sequence[LabelledRow]) -> tuple[str, ...]:
    """The class of each probability; empty where it cannot be known.

    The highest one is that of the predicted class; scikit-learn sorts the others.
    """
    scored = [row for row in rows if row.probabilities]
    width = len(scored[0].probabilities) if scored else 0
    known: dict[int, str] = {}
    for row in scored:
        if len(row.probabilities) != width or None in row.probabilities:
            return ()
        known[max(range(width), key=row.probabilities.__getitem__)] = name_class(row.predicted)
    values = {name_class(value) for row in rows for value in (row.predicted, row.truth)}
    if len(known) < width:
        numbers = all(_parse_number(value) is not None for value in values)
        order = sorted(values, key=float) if numbers else sorted(values)
        known = dict(enumerate(order)) if all(order[at : at + 1] == [name] for at, name in known.items()) else {}
    complete = len(known) == width and set(known.values()) == values
    return tuple(known[at] for at in range(width)) if complete else ()


def _measure_loss(rows: Sequence[LabelledRow], order: Sequence[str]) -> Estimate | None:
    places = {name: at for at, name in enumerate(order)}
    losses = [
        -math.log(max(row.probabilities[places[name_class(row.truth)]], _LEAST_PROBABILITY))
        for row in rows
        if order and row.probabilities
    ]
    return estimate_mean(len(losses), sum(losses), sum(loss * loss for loss in losses)) if losses else None


def _find_errors(rows: Sequence[LabelledRow]) -> list[float]:
    errors = []
    for row in rows:
        truth, predicted = _parse_number(row.truth), _parse_number(str(row.predicted))
        if truth is None:
            raise OperatorError(
                f"the label {shown(row.truth)} is no number, but {row.model}@{row.version} predicts numbers"
            )
        if predicted is not None:
            errors.append(abs(predicted - truth))
    return errors


def _measure_group(rows: Sequence[LabelledRow], classes: bool, order: Sequence[str]) -> dict[str, Any]:
    """The figures of some rows; `counts` are what they are made from."""
    if classes:
        right = sum(name_class(row.predicted) == name_class(row.truth) for row in rows)
        found = {ACCURACY: estimate_share(right, len(rows)), "log_loss": _measure_loss(rows, order)}
        return {"rows": len(rows), "counts": (right, len(rows)), **found}
    errors = _find_errors(rows)
    if not errors:
        return {"rows": 0, "counts": (0, 0.0, 0.0)}
    squares = [error * error for error in errors]
    count, total, square = len(errors), sum(errors), sum(squares)
    found = {MAE: estimate_mean(count, total, square)}
    found["rmse"] = estimate_root(count, square, sum(each * each for each in squares))
    return {"rows": count, "counts": (count, total, square), **found}


def _judge(group: Mapping[str, Any], classes: bool, reference: Mapping[str, float]) -> bool | None:
    name = ACCURACY if classes else MAE
    if name not in reference or group["rows"] < LEAST_LABELS:
        return None
    is_worse: Callable[..., bool] = is_worse_share if classes else is_worse_error
    return is_worse(*group["counts"], reference[name])


def _describe(group: Mapping[str, Any], day: str, part: str) -> dict[str, Any]:
    figures = {name: value.describe() for name, value in group.items() if isinstance(value, Estimate)}
    return {"day": day, "part": part, "rows": group["rows"], **figures}


def describe_version(
    rows: Sequence[LabelledRow], reference: Mapping[str, float], numbers: bool | None = None
) -> dict[str, Any]:
    """The report on one version's rows: each day and slice, then all days of each slice. Raises OperatorError.

    `numbers` says whether the model predicts numbers; None finds it out.
    """
    classes = has_classes(rows) if numbers is None else not numbers
    order = find_class_order(rows) if classes else ()
    groups: dict[tuple[str, str], list[LabelledRow]] = {}
    for row in rows:
        for day in (row.day, ALL_DAYS):
            groups.setdefault((day, row.part), []).append(row)
    keys = sorted(groups, key=lambda key: (key[0] == ALL_DAYS, key))
    whole = _measure_group(rows, classes, order)
    return {
        "model": rows[0].model,
        "version": rows[0].version,
        "rows": len(rows),
        "reference": dict(reference),
        "worse": _judge(whole, classes, reference),
        "groups": [_describe(_measure_group(groups[key], classes, order), *key) for key in keys],
        "whole": _describe(whole, ALL_DAYS, ""),
    }


def split_versions(rows: Iterable[LabelledRow]) -> dict[tuple[str, str], list[LabelledRow]]:
    """The rows by model and version, in the order of their names."""
    found: dict[tuple[str, str], list[LabelledRow]] = {}
    for row in rows:
        found.setdefault((row.model, row.version), []).append(row)
    return dict(sorted(found.items()))
