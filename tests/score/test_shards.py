"""Shards: joined they are the file that one run writes, byte for byte, however often one of them is killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.errors import OperatorError
from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.models.store import find_version
from berth.score.file_formats import find_format
from berth.score.job import Job, score_file
from berth.score.joining import join_shards
from berth.score.parts import Places
from berth.score.progress import Done
from berth.score.shards import Shard, parse_shard
from berth.serving.opening import open_version

ROWS = 1037
_CHUNK_ROWS = 50


@pytest.fixture(scope="module")
def model(store: Path) -> Model:
    """A classifier of four numbers."""
    return open_version(find_version(store, "iris", "2"), LoadOptions(), "warn")


def write_input(path: Path, rows: int = ROWS) -> Path:
    """Rows of four numbers and an id; some of them bad, some ids with line ends where the format has them."""
    values = np.random.default_rng(5).uniform(0, 7, (rows, 4)).round(3).tolist()
    names = ["a", "b", "c", "d"]
    ids = [f"one\n{at}" if at % 97 == 0 and path.suffix != ".parquet" else f"id {at}" for at in range(rows)]
    if path.suffix == ".csv":
        body = "".join(
            f'"{name}",{"bad" if at % 211 == 3 else row[0]},{row[1]},{row[2]},{row[3]}\n'
            for at, (name, row) in enumerate(zip(ids, values, strict=True))
        )
        path.write_text(f"id,{','.join(names)}\n{body}")
    elif path.suffix == ".jsonl":
        documents = [
            {"id": name, "features": row[: 3 if at % 211 == 3 else 4]}
            for at, (name, row) in enumerate(zip(ids, values, strict=True))
        ]
        path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    else:
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        from pyarrow import parquet

        columns: dict[str, Any] = {"id": ids} | {name: [row[at] for row in values] for at, name in enumerate(names)}
        columns["a"] = [1e300 if at % 211 == 3 else value for at, value in enumerate(columns["a"])]
        parquet.write_table(pa.table(columns), path, row_group_size=120)
    return path


def job_of(input_: Path, output: Path, shard: Shard | None = None) -> Job:
    """A job with both outputs and the id."""
    reads, writes = find_format(input_), find_format(output)
    assert reads
    assert writes
    places = Places(output, output.with_name(output.name + ".errors.jsonl"))
    outputs = ("prediction", "probabilities")
    return Job(input_, places, reads, writes, outputs, ("id",), _CHUNK_ROWS, shard=shard)


def run(job: Job, model: Model, on_chunk: Callable[[Done], None] = lambda done: None) -> Done:
    """The job, done."""
    return score_file(job, model, lambda source, done: None, on_chunk)


def shard_job(input_: Path, folder: Path, index: int, count: int) -> Job:
    """The job of one shard."""
    folder.mkdir(exist_ok=True)
    shard = Shard(index, count)
    return job_of(input_, shard.file(folder, input_.suffix), shard)


def read(places: Places) -> tuple[bytes, bytes]:
    """Output and errors."""
    return places.output.read_bytes(), places.errors.read_bytes() if places.errors.exists() else b""


class _Killed(Exception):
    """The run ends here."""


def killed_after(chunks: int) -> Callable[[Done], None]:
    """What ends a run behind its n-th chunk."""
    left = [chunks]

    def on_chunk(done: Done) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise _Killed

    return on_chunk


@pytest.mark.parametrize("count", [1, 3, 10, 40])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_joined_shards_are_one_run(model: Model, tmp_path: Path, ending: str, count: int) -> None:
    input_ = write_input(tmp_path / f"in.{ending}")
    whole = job_of(input_, tmp_path / f"whole.{ending}")
    done = run(whole, model)
    assert 0 < done.failed < 10
    folder = tmp_path / "parts"
    scored = 0
    for index in reversed(range(count)):
        part = run(shard_job(input_, folder, index, count), model)
        assert part.rows == ROWS
        scored += part.rows - part.skipped
    assert scored == ROWS
    joined = Places(tmp_path / f"joined.{ending}", tmp_path / "joined.errors")
    summary = join_shards(folder, joined, overwrite=False)
    assert read(joined) == read(whole.places)
    assert (summary["rows"], summary["failed"], summary["shards"]) == (ROWS, done.failed, count)
    assert json.loads((folder / "_summary.json").read_text()) == summary
    assert sorted(path.name for path in tmp_path.iterdir() if ".part" in path.name) == []


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_shard_that_is_killed_twice(model: Model, tmp_path: Path, ending: str) -> None:
    input_ = write_input(tmp_path / f"in.{ending}")
    whole = job_of(input_, tmp_path / f"whole.{ending}")
    run(whole, model)
    folder = tmp_path / "parts"
    for index in range(3):
        job = shard_job(input_, folder, index, 3)
        for _ in range(2):
            with pytest.raises(_Killed):
                run(job, model, killed_after(2))
            assert not job.places.output.exists()
            for part in (job.places.part, job.places.errors_part):  # the disk had more than the state says
                part.write_bytes(part.read_bytes() + b"half a li")
        run(job, model)
    joined = Places(tmp_path / f"joined.{ending}", tmp_path / "joined.errors")
    join_shards(folder, joined, overwrite=False)
    assert read(joined) == read(whole.places)


def test_a_shard_that_is_done_ends_at_once(model: Model, tmp_path: Path) -> None:
    input_ = write_input(tmp_path / "in.csv")
    job = shard_job(input_, tmp_path / "parts", 1, 3)
    first, before = run(job, model), read(job.places)
    again = run(job, model, lambda done: pytest.fail("a chunk was scored again"))
    assert (again, read(job.places)) == (first, before)
    input_.write_text(input_.read_text() + "more,1,2,3,4\n")
    with pytest.raises(OperatorError, match="is there already"):
        run(job, model)
    assert run(replace(job, overwrite=True), model).rows == ROWS + 1


def test_row_groups_of_others_are_not_read(model: Model, tmp_path: Path) -> None:
    input_ = write_input(tmp_path / "in.parquet")
    from pyarrow import parquet

    with parquet.ParquetFile(input_) as file:
        column = file.metadata.row_group(2).column(1)
        damaged = range(column.data_page_offset, column.data_page_offset + column.total_compressed_size)
    data = bytearray(input_.read_bytes())
    for at in damaged:
        data[at] ^= 0xFF
    input_.write_bytes(data)
    # Row groups have 120 rows: chunks 0-2, 3-5, 6-8, ...; the third holds the chunks 6, 7 and 8.
    run(shard_job(input_, tmp_path / "parts", 0, 20), model)
    with pytest.raises(OperatorError, match="cannot be read as parquet"):
        run(shard_job(input_, tmp_path / "parts", 7, 20), model)


def test_what_does_not_belong_together_is_not_joined(model: Model, tmp_path: Path) -> None:
    input_, folder = write_input(tmp_path / "in.csv"), tmp_path / "parts"
    joined = Places(tmp_path / "joined.csv", tmp_path / "joined.errors")

    def refused(reason: str) -> None:
        with pytest.raises(OperatorError, match=reason):
            join_shards(folder, joined, overwrite=False)
        assert not joined.output.exists()

    folder.mkdir()
    refused("but it has parts none")
    jobs = [shard_job(input_, folder, index, 3) for index in range(3)]
    for job in jobs[:2]:
        run(job, model)
    refused(r"lacks 1 of 3 shards: 2/3; run them, then join")
    run(replace(jobs[2], chunk_rows=60), model)
    refused("chunk rows is 60, but 50 in")
    run(replace(jobs[2], overwrite=True), model)
    report = jobs[2].places.report
    kept = report.read_bytes()
    report.unlink()
    refused("run its shard again")
    report.write_bytes(kept)
    output = jobs[1].places.output.read_bytes()
    jobs[1].places.output.write_bytes(output[:-1])
    refused("does not have the .* bytes that its run wrote")
    jobs[1].places.output.write_bytes(output)
    shutil.copyfile(jobs[1].places.output, folder / "part-00000-of-00004.csv")
    refused("the part files of one run")
    (folder / "part-00000-of-00004.csv").unlink()
    with pytest.raises(OperatorError, match="end the joined file's name likewise"):
        join_shards(folder, Places(tmp_path / "joined.jsonl", tmp_path / "e"), overwrite=False)
    join_shards(folder, joined, overwrite=False)
    refused_now = pytest.raises(OperatorError, match="is there already")
    with refused_now:
        join_shards(folder, joined, overwrite=False)
    join_shards(folder, joined, overwrite=True)


@pytest.mark.parametrize("text", ["", "3", "3/3", "-1/3", "a/b", "1/0", "1/2/3", "1/1000000"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(OperatorError, match="want INDEX/COUNT"):
        parse_shard(text)
