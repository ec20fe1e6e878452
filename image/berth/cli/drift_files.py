"""Drift of a file: rows as they are scored, or a payload log, beside a version's profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from berth.errors import BerthError, LoadError, OperatorError, RequestError
from berth.models.manifest import Manifest
from berth.models.profile import PREDICTION, Profile, decode_profile
from berth.publishing.samples import decode_sample, read_sample
from berth.score.chunks import RowSource, list_rows
from berth.score.file_formats import find_format
from berth.telemetry.drift.report import describe_features
from berth.telemetry.drift.watcher import Watched, count_block, split_counts
from berth.telemetry.payloads.logged_bodies import find_outputs, read_payloads
from berth.tensors.arrays import Array, Tensors
from berth.tensors.schema import Specs, check_tensors
from berth.web.logged_requests import decode_logged

_CHUNK_ROWS = 4096
_LOG_FIELDS = {"request_id", "protocol", "status", "request", "response"}
# Tensors, predictions by output, and how many rows could not be read.
Block = tuple[Tensors, Mapping[str, Array], int]


def _profile_of(manifest: Manifest) -> Profile:
    profile = decode_profile(manifest.metadata)
    if profile is None:
        raise LoadError(f"{manifest.name}@{manifest.version} has no profile: add the model with --sample")
    return profile


def _decode_good(source: RowSource, specs: Specs, rows: Sequence[Any], number: int) -> Iterator[Block]:
    """The rows as tensors; where some cannot be decoded, halves of them, until the bad ones stand alone."""
    good = [row for row in rows if not isinstance(row, RequestError)]
    if len(good) < len(rows):
        yield {}, {}, len(rows) - len(good)
    if not good:
        return
    try:
        yield check_tensors(source.decode(good, number), specs, _CHUNK_ROWS), {}, 0
    except RequestError:
        if len(good) == 1:
            yield {}, {}, 1
            return
        half = len(good) // 2
        yield from _decode_good(source, specs, good[:half], number)
        yield from _decode_good(source, specs, good[half:], number + half)


def _read_rows(path: Path, manifest: Manifest) -> Iterator[Block]:
    """A file of rows. Raises OperatorError, LoadError."""
    format_ = find_format(path)
    if format_ is None or format_.name == "csv":
        yield decode_sample(read_sample(path, manifest.inputs), manifest.inputs), {}, 0
        return
    format_.check()
    try:
        source, number = format_.read(path, manifest.inputs, ()), 1
    except RequestError as error:
        raise OperatorError(f"{path.name}: {error.message}") from error
    for chunk in source.chunks(0, _CHUNK_ROWS):
        yield from _decode_good(source, manifest.inputs, list_rows(chunk.rows), number)
        number += len(chunk.rows)


def _without_errors(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line of a stream without its rows that have an error in place of a prediction."""
    rows, found = ((line[part] or {}).get(key) for part, key in (("request", "instances"), ("response", "predictions")))
    if not isinstance(rows, list) or not isinstance(found, list) or len(rows) != len(found):
        return line
    good = [at for at, each in enumerate(found) if not (isinstance(each, dict) and {"error", "code"} <= each.keys())]
    kept, predicted = ([values[at] for at in good] for values in (rows, found))
    return {**line, "request": {"instances": kept}, "response": {"predictions": predicted}}


def _decode_line(line: Mapping[str, Any], manifest: Manifest) -> Block:
    """One logged request; its predictions where they are of the version that is compared with."""
    try:
        line = _without_errors(line) if line.get("protocol") == "stream" else line
        tensors = decode_logged(str(line.get("protocol")), line["request"], manifest.inputs)
    except BerthError:
        return {}, {}, 1
    values = find_outputs(line).get(PREDICTION) if str(line.get("version")) == manifest.version else None
    if not values or any(value is None or isinstance(value, list | dict) for value in values):
        return tensors, {}, 0
    words = any(isinstance(value, str) for value in values)
    return tensors, {PREDICTION: np.array(values, object if words else None)}, 0


def _join(blocks: Sequence[Block]) -> Block:
    tensors = {name: np.concatenate([block[0][name] for block in blocks]) for name in blocks[0][0]}
    outputs = {name: np.concatenate([block[1][name] for block in blocks]) for name in blocks[0][1]}
    return tensors, outputs, 0


def _read_log(path: Path, manifest: Manifest) -> Iterator[Block]:
    """The requests of a payload log that this model predicted, many in a block."""
    waiting: dict[tuple[Any, ...], list[Block]] = {}
    for line in read_payloads(path):
        if line["status"] != 200 or line.get("model") != manifest.name:
            continue
        block = _decode_line(line, manifest)
        if block[2]:
            yield block
            continue
        key = tuple((name, array.dtype, array.shape[1:]) for name, array in {**block[0], **block[1]}.items())
        waiting.setdefault(key, []).append(block)
        if len(waiting[key]) >= _CHUNK_ROWS:
            yield _join(waiting.pop(key))
    yield from map(_join, waiting.values())


def _is_log(path: Path) -> bool:
    """Whether a file's first line is one of a payload log."""
    with path.open("rb") as file:
        try:
            first = orjson.loads(file.readline(1 << 24))
        except orjson.JSONDecodeError:
            return False
    return isinstance(first, dict) and first.keys() >= _LOG_FIELDS


def report_file(path: Path, manifest: Manifest) -> dict[str, Any]:
    """The report on a file; `unreadable` is how many of its rows, or logged requests, are left out.

    Raises LoadError, OperatorError.
    """
    logged = _is_log(path)
    profile = _profile_of(manifest) if logged else Profile(_profile_of(manifest).columns)
    watched = Watched(manifest.inputs, profile)
    counts, unreadable = np.zeros(watched.size, np.int64), 0
    for tensors, outputs, bad in (_read_log if logged else _read_rows)(path, manifest):
        unreadable += bad
        if tensors:
            counts += count_block(watched, tensors, outputs, next(iter(tensors.values())).shape[0])
    rows, features = split_counts(profile, counts)
    return {
        "model": manifest.name,
        "version": manifest.version,
        "window_seconds": None,
        "rows": rows,
        "unreadable": unreadable,
        "features": describe_features(profile, features),
    }
