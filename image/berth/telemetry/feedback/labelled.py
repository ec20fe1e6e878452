"""Labels from a file, and the predictions of a payload log that they belong to."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from berth.errors import OperatorError
from berth.telemetry.payloads.logged_bodies import find_columns, find_outputs

# Which of a request's rows a label is for; without this column, labels of one request are for its rows in order.
ROW = "row"
_UNKNOWN = "unknown"
# The row or None, the truth, and the record that it stands in.
Label: TypeAlias = tuple[int | None, str, Mapping[str, str]]
_DAY_CHARACTERS = len("2026-11-30")


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One prediction and what came true: the day of the request in UTC, and the value that the row is sliced by."""

    model: str
    version: str
    day: str
    part: str
    predicted: Any
    truth: str
    probabilities: tuple[float, ...] = ()


@dataclass
class Labels:
    """The labels of a file by request, and the names of its columns."""

    by_key: dict[str, list[Label]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()


@dataclass
class JoinedLabels:
    """The rows that have a label, and how much of both files found no partner or could not be read."""

    rows: list[LabelledRow] = field(default_factory=list)
    labels: int = 0
    requests: int = 0
    unlabelled: int = 0
    unreadable: int = 0


def _check_columns(path: Path, columns: Iterable[str], wanted: Iterable[str]) -> None:
    for name in wanted:
        if name not in columns:
            have = ", ".join(columns) or "none"
            raise OperatorError(f"{path.name} has no column {name!r}, only {have}; name it with --on and --truth")


def read_labels(path: Path, on: str, truth: str) -> Labels:
    """The labels of a CSV file with a header. Raises OperatorError."""
    found = Labels()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            found.columns = tuple(reader.fieldnames or ())
            _check_columns(path, found.columns, (on, truth))
            for record in reader:
                row = (record.get(ROW) or "").strip()
                if row and not row.isdigit():
                    raise OperatorError(f"{path.name}, line {reader.line_num}: row {row[:60]!r} is no whole number")
                value = (record[truth] or "").strip()
                if value:  # not known yet
                    label = int(row) if row else None, value, record
                    found.by_key.setdefault((record[on] or "").strip(), []).append(label)
    except (csv.Error, UnicodeDecodeError) as error:
        raise OperatorError(f"{path.name} cannot be read as CSV: {error}") from error
    return found


def _find_part(by: str, line: Mapping[str, Any], row: int, record: Mapping[str, str]) -> str:
    """The value that a row is sliced by: from the labels, the log's own fields, or the request's columns."""
    if not by:
        return ""
    if by in record:
        return (record[by] or "").strip()
    if by in line and by not in ("request", "response"):
        return str(line[by])
    values = find_columns(line).get(by, ())
    return str(values[row]) if row < len(values) else _UNKNOWN


def _join_line(
    line: Mapping[str, Any], labels: list[tuple[int | None, str, Mapping[str, str]]], by: str
) -> Iterator[LabelledRow]:
    outputs = find_outputs(line)
    predictions, probabilities = outputs["prediction"], outputs.get("probabilities", [])
    for at, (given, truth, record) in enumerate(labels):
        row = at if given is None else given
        if row < len(predictions):
            scores = probabilities[row] if row < len(probabilities) else ()
            yield LabelledRow(
                str(line.get("model")), str(line.get("version")), str(line.get("ts"))[:_DAY_CHARACTERS],
                _find_part(by, line, row, record), predictions[row], truth,
                tuple(scores) if isinstance(scores, list) else (),
            )  # fmt: skip


def join_labels(lines: Iterable[Mapping[str, Any]], labels: Labels, on: str, by: str = "") -> JoinedLabels:
    """The predictions of a payload log's lines that have a label; a request that was sent twice counts once."""
    joined = JoinedLabels(labels=sum(map(len, labels.by_key.values())))
    waiting = dict(labels.by_key)
    for line in lines:
        if line["status"] != 200:
            continue
        joined.requests += 1
        wanted = waiting.get(str(line.get(on, "")))
        if wanted is None:
            joined.unlabelled += 1
        elif "prediction" not in find_outputs(line):
            joined.unreadable += 1
        else:
            joined.rows += _join_line(line, wanted, by)
            del waiting[str(line[on])]
    return joined
