"""A million rows in 1, 3 and 10 shards, one of them killed twice with SIGKILL: joined, they are the file of one run."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.models.store import find_version
from berth.score.file_formats import find_format
from berth.score.job import Job, score_file
from berth.score.joining import join_shards
from berth.score.parts import Places
from berth.score.progress import Done
from berth.score.shards import Shard
from berth.serving.opening import open_version
from score.row_models import add_row_model

ROWS = 1_000_000
_NAMES = ["a", "b", "c", "d"]
# Scores a shard and kills itself, as nothing else could at that moment, after so many chunks.
_KILLED = """
import os, signal, sys
from pathlib import Path
from berth.loaders.formats import LoadOptions
from berth.models.store import find_version
from berth.score.job import score_file
from berth.serving.opening import open_version
from score.test_million_rows import job_of, Shard

store, source, output, index, count, chunks = sys.argv[1:]
left = [int(chunks)]

def on_chunk(done):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

model = open_version(find_version(Path(store), "rows"), LoadOptions(), "warn")
job = job_of(Path(source), Path(output), Shard(int(index), int(count)))
score_file(job, model, lambda source, done: None, on_chunk)
"""


@pytest.fixture(scope="module")
def rows_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a classifier of four numbers."""
    return add_row_model(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def model(rows_store: Path) -> Model:
    """That classifier."""
    return open_version(find_version(rows_store, "rows"), LoadOptions(), "warn")


def _write_rows(path: Path) -> None:
    values = np.random.default_rng(3).uniform(0, 7, (ROWS, 4)).round(2)
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        from pyarrow import parquet

        columns = {name: values[:, at] for at, name in enumerate(_NAMES)}
        parquet.write_table(pa.table(columns), path, row_group_size=70_000)
        return
    begins, ends = ("[", "]") if path.suffix == ".jsonl" else ("", "")
    lines = [f"{begins}{a},{b},{c},{d}{ends}" for a, b, c, d in values.tolist()]
    lines[ROWS // 3] = lines[ROWS // 3].replace(",", ",x", 1)  # one bad row
    header = [] if begins else [",".join(_NAMES)]
    path.write_text("\n".join([*header, *lines, ""]))


def job_of(source: Path, output: Path, shard: Shard | None = None) -> Job:
    """A job of 100 chunks, whose progress is saved after each."""
    format_ = find_format(source)
    assert format_
    places = Places(output, output.with_name(output.name + ".errors.jsonl"))
    return Job(source, places, format_, format_, ("prediction",), shard=shard)


def _run(job: Job, model: Model) -> Done:
    return score_file(replace(job, save_seconds=1.0), model, lambda source, done: None, lambda done: None)


def _kill(store: Path, source: Path, output: Path, shard: Shard, chunks: int) -> None:
    words = [str(store), str(source), str(output), str(shard.index), str(shard.count), str(chunks)]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{_KILLED}"]
    assert subprocess.run([*command, *words], capture_output=True).returncode == -signal.SIGKILL
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_joined_shards_are_one_run(rows_store: Path, model: Model, tmp_path: Path, ending: str) -> None:
    source, whole = tmp_path / f"in.{ending}", tmp_path / f"whole.{ending}"
    _write_rows(source)
    done = _run(job_of(source, whole), model)
    assert (done.rows, done.failed) == (ROWS, 0 if ending == "parquet" else 1)
    for count in (1, 3, 10):
        folder = tmp_path / f"of-{count}"
        folder.mkdir()
        for index in range(count):
            shard = Shard(index, count)
            output = shard.file(folder, f".{ending}")
            if shard == Shard(1, 3):
                for chunks in (4, 5):
                    _kill(rows_store, source, output, shard, chunks)
            _run(job_of(source, output, shard), model)
        joined = Places(tmp_path / f"joined-{count}.{ending}", tmp_path / f"joined-{count}.errors")
        summary = join_shards(folder, joined, overwrite=False)
        assert (summary["rows"], summary["failed"]) == (ROWS, done.failed)
        assert joined.output.read_bytes() == whole.read_bytes()
        if done.failed:
            assert joined.errors.read_bytes() == whole.with_name(f"{whole.name}.errors.jsonl").read_bytes()
