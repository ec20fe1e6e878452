"""Scoring in a bucket: files are read where they lie and appear whole; several files are scored one by one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from berth.cli.score_joining import join, summarize
from berth.cli.score_places import choose_places, list_inputs
from berth.errors import OperatorError
from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.models.store import find_version
from berth.score.job import Job, score_file
from berth.score.progress import Done
from berth.score.remote_files import Place, RemotePlace
from berth.score.shards import Shard
from berth.serving.opening import open_version

fsspec = pytest.importorskip("fsspec", reason="buckets need fsspec (berth[s3])")
ROWS = [f"r{at},{at * 0.3:.1f},{at},{'x' if at % 10 == 9 else 1},4" for at in range(23)]
HEADER = "id,a,b,c,d"


@pytest.fixture(scope="module")
def model(store: Path) -> Model:
    """A classifier of four numbers."""
    return open_version(find_version(store, "iris", "2"), LoadOptions(), "warn")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemotePlace]:
    """A bucket in memory, which has of a real one what counts: no folders, no appending, whole objects."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    yield RemotePlace(files, "s3", "bucket")
    files.rm("/bucket", recursive=True)


def _put(place: RemotePlace, lines: list[str]) -> RemotePlace:
    place.files.pipe_file(place.path, "\n".join([HEADER, *lines, ""]).encode())
    return place


def _read(place: Place) -> bytes:
    return place.open("rb").read()


def _jobs(input_: Place, output: Place, shard: Shard | None = None, **more: Any) -> list[Job]:
    return [
        Job(one.input, one.places, one.reads, one.writes, ("prediction",), ("id",), 4, shard=one.shard, file=one.file)
        for one in (replace(one, **more) for one in choose_places(input_, output, None, None, shard))
    ]


def _run(job: Job, model: Model, on_chunk: Callable[[Done], None] = lambda done: None) -> Done:
    return score_file(job, model, lambda source, done: None, on_chunk)


@pytest.fixture
def whole(model: Model, tmp_path: Path) -> tuple[bytes, bytes]:
    """Output and errors of the same rows on this disk."""
    (tmp_path / "in.csv").write_text("\n".join([HEADER, *ROWS, ""]))
    (job,) = _jobs(tmp_path / "in.csv", tmp_path / "here.csv")
    _run(job, model)
    return job.places.output.read_bytes(), job.places.errors.read_bytes()


def test_a_file_from_bucket_to_bucket(bucket: RemotePlace, model: Model, whole: tuple[bytes, bytes]) -> None:
    input_, output = _put(bucket / "in.csv", ROWS), bucket / "out" / "scores.csv"
    (job,) = _jobs(input_, output)

    def stop(done: Done) -> None:
        assert not output.is_file()
        if done.rows > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(job, model, stop)
    seen: list[Done] = []
    assert _run(job, model, seen.append).rows == 23
    assert seen[0].rows > 12  # it went on where it was
    assert (_read(output), _read(bucket / "out" / "scores.csv.errors.jsonl")) == whole
    assert list(job.places.output.parent.iterdir()) == []
    with pytest.raises(OperatorError, match=r"s3://bucket/out/scores\.csv is there already"):
        _run(job, model)
    _put(input_, ROWS[:3])
    assert _run(replace(job, overwrite=True), model).rows == 3
    assert not (bucket / "out" / "scores.csv.errors.jsonl").is_file()


def test_shards_in_a_bucket(bucket: RemotePlace, model: Model, whole: tuple[bytes, bytes]) -> None:
    input_, parts = _put(bucket / "in.csv", ROWS), bucket / "parts"
    for index in range(3):
        (job,) = _jobs(input_, parts, Shard(index, 3))
        done = _run(job, model)
        shutil.rmtree(job.places.output.parent)  # as a pod's disk is gone with it
        job.places.output.parent.mkdir()
        assert _run(job, model, lambda done: pytest.fail("a chunk was scored again")) == done
    summary, _ = join(parts, bucket / "joined.csv", None, overwrite=False)
    assert (_read(bucket / "joined.csv"), _read(bucket / "joined.csv.errors.jsonl")) == whole
    assert json.loads(_read(parts / "_summary.json")) == summary
    (parts / "part-00001-of-00003.csv.json").remove()
    with pytest.raises(OperatorError, match="run its shard again"):
        join(parts, bucket / "again.csv", None, overwrite=False)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("pattern", ["", "*.csv"])
def test_a_directory_is_split_by_files(
    bucket: RemotePlace, model: Model, whole: tuple[bytes, bytes], tmp_path: Path, count: int, pattern: str
) -> None:
    places: list[tuple[Place, Place]] = [(tmp_path / "days", tmp_path / "out"), (bucket / "days", bucket / "out")]
    (tmp_path / "days").mkdir()
    for number, lines in enumerate((ROWS[:8], ROWS[8:16], ROWS[16:])):
        _put(bucket / "days" / f"{number}.csv", lines).download(tmp_path / "days" / f"{number}.csv")
    (tmp_path / "days" / "notes.txt").write_text("no rows")
    for folder, output in places:
        input_ = folder / pattern if pattern else folder
        assert [path.name for path in list_inputs(input_) or ()] == ["0.csv", "1.csv", "2.csv"]
        scored = []
        for index in range(count):
            for job in _jobs(input_, output, Shard(index, count) if count > 1 else None):
                _run(job, model)
                scored.append(job.input.name)
                assert _run(job, model, lambda done: pytest.fail("a file was scored again")).finished
            if index + 1 < count:
                with pytest.raises(OperatorError, match="2 of 3 scored files; run the rest first"):
                    join(output, tmp_path / "early.csv", None, overwrite=False)
        assert sorted(scored) == ["0.csv", "1.csv", "2.csv"]
        summary = summarize(output)
        assert (summary["files"], summary["rows"], summary["failed"]) == (3, 23, 2)
        joined = tmp_path / f"{type(output).__name__}.csv"
        join(output, joined, None, overwrite=False)
        assert joined.read_bytes() == whole[0]
