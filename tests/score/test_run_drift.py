"""The drift of a run in `_summary.json`: that of the whole file, however many shards, of which some were killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from berth.cli.drift_files import report_file
from berth.loaders.formats import LoadOptions
from berth.models.manifest import MANIFEST, parse_manifest
from berth.models.store import find_version
from berth.publishing.adding import AddRequest, add_version
from berth.score.file_formats import find_format
from berth.score.job import Job, score_file
from berth.score.joining import join_shards
from berth.score.parts import Places
from berth.score.progress import Done
from berth.score.shards import Shard
from berth.serving.opening import open_version

NAMES = ["age", "income"]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model that has a profile."""
    folder, store = tmp_path_factory.mktemp("profiled"), tmp_path_factory.mktemp("profiled-store")
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(400, 2)), columns=NAMES)
    joblib.dump(LogisticRegression().fit(frame, frame["age"] > 0), folder / "m.joblib")
    frame.to_csv(folder / "sample.csv", index=False)
    add_version(store, folder / "m.joblib", AddRequest("m", "1", sample=folder / "sample.csv"), LoadOptions())
    return store


class _Killed(Exception):
    """The run ends here."""


def _killed_after(chunks: int) -> Callable[[Done], None]:
    seen: list[Done] = []

    def on_chunk(done: Done) -> None:
        seen.append(done)
        if len(seen) == chunks:
            raise _Killed

    return on_chunk


def test_the_summary_has_the_drift_of_the_whole_file(profiled: Path, tmp_path: Path) -> None:
    entry = find_version(profiled, "m")
    model = open_version(entry, LoadOptions(), "warn")
    values = np.random.default_rng(2).normal(1.0, 1.0, (900, 2)).round(3)
    rows = [f"{age},{'bad' if at == 17 else income}" for at, (age, income) in enumerate(values.tolist())]
    (tmp_path / "in.csv").write_text("\n".join([",".join(NAMES), *rows]) + "\n")
    (tmp_path / "good.csv").write_text("\n".join([",".join(NAMES), *rows[:17], *rows[18:]]) + "\n")
    parts = tmp_path / "parts"
    parts.mkdir()
    format_ = find_format(tmp_path / "in.csv")
    assert format_
    for index in range(3):
        output = Shard(index, 3).file(parts, ".csv")
        places = Places(output, output.with_name(output.name + ".errors.jsonl"))
        job = Job(tmp_path / "in.csv", places, format_, format_, ("prediction",), (), 50, shard=Shard(index, 3))
        with pytest.raises(_Killed):
            score_file(job, model, lambda source, done: None, _killed_after(2))
        score_file(job, model, lambda source, done: None, lambda done: None)
    joined = Places(tmp_path / "joined.csv", tmp_path / "joined.errors")
    join_shards(parts, joined, overwrite=False)
    summary = json.loads((parts / "_summary.json").read_text())
    assert (summary["rows"], summary["failed"], summary["drift"]["rows"]) == (900, 1, 899)
    manifest = parse_manifest((entry.folder / MANIFEST).read_bytes())
    whole = {each["name"]: each for each in report_file(tmp_path / "good.csv", manifest)["features"]}
    found = {each["name"]: each for each in summary["drift"]["features"]}
    for name in NAMES:
        assert found[name]["observed"] == whole[name]["observed"]
        assert found[name]["drifted"] is True
    assert sum(found["prediction"]["observed"]) == 899


def test_parquet_drifts_as_csv(profiled: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    frame = pd.DataFrame(np.random.default_rng(3).normal(size=(300, 2)).round(3), columns=NAMES)
    frame.to_csv(tmp_path / "in.csv", index=False)
    parquet.write_table(pa.table({name: frame[name].to_numpy() for name in NAMES}), tmp_path / "in.parquet")
    manifest = parse_manifest((find_version(profiled, "m").folder / MANIFEST).read_bytes())
    reports = [report_file(tmp_path / f"in.{ending}", manifest) for ending in ("csv", "parquet")]
    assert reports[0] == reports[1]
    assert reports[0]["rows"] == 300
