"""`berth add --sample` keeps a profile; `berth drift ROWS.csv` compares rows with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.loaders.formats import LoadOptions
from berth.models.profile import decode_profile
from berth.models.store import Entry, read_manifest
from berth.publishing.adding import AddRequest, add_version


def write_rows(path: Path, rows: np.ndarray, columns: list[str]) -> Path:
    np.savetxt(path, rows, delimiter=",", header=",".join(columns), comments="")
    return path


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Entry, np.ndarray, list[str]]:
    """A store with an iris model, and its sample."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("profiled")
    iris = load_iris()
    joblib.dump(LogisticRegression(max_iter=1000).fit(iris.data, iris.target), folder / "iris.joblib")
    sample = write_rows(folder / "sample.csv", iris.data, iris.feature_names)
    request = AddRequest("iris", sample=sample)
    entry = add_version(folder / "store", folder / "iris.joblib", request, LoadOptions())
    return folder, entry, iris.data, list(iris.feature_names)


def test_a_sample_leaves_its_profile(added: tuple[Path, Entry, np.ndarray, list[str]]) -> None:
    _, entry, _, names = added
    profile = decode_profile(read_manifest(entry).metadata)
    assert profile is not None
    assert [column.name for column in profile.features] == [*names, "prediction"]
    assert profile.prediction is not None
    assert profile.prediction.categories == (0.0, 1.0, 2.0)
    assert all(column.rows == 150 for column in profile.columns)


def test_no_profile_without_a_sample_or_a_wish(added: tuple[Path, Entry, np.ndarray, list[str]]) -> None:
    folder = added[0]
    requests = AddRequest("bare"), AddRequest("unwatched", sample=folder / "sample.csv", profile=False)
    for request in requests:
        entry = add_version(folder / "store", folder / "iris.joblib", request, LoadOptions())
        assert "profile" not in read_manifest(entry).metadata


def test_rows_in_a_file_are_compared(added: tuple[Path, Entry, np.ndarray, list[str]], tmp_path: Path) -> None:
    folder, _, rows, names = added
    shifted = rows + np.array([0, 0, 0, 5.0])
    command = ["drift", "--model", "iris", "--store", str(folder / "store")]
    same = CliRunner().invoke(berth, [*command, str(folder / "sample.csv")])
    assert same.exit_code == 0, same.output
    assert "nothing drifted" in same.output
    file = write_rows(tmp_path / "rows.csv", shifted, names)
    found = CliRunner().invoke(berth, [*command, str(file)])
    assert found.exit_code == 1
    assert "drifted: petal width (cm)" in found.output
    document = json.loads(CliRunner().invoke(berth, [*command, "--json", str(file)]).output)
    feature = document["models"][0]["features"][0]
    assert feature["name"] == "petal width (cm)"
    assert feature["psi"] > feature["threshold"]


def observed(folder: Path, file: Path) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """The counts of every feature that `berth drift FILE` reports, and the whole report."""
    command = ["drift", str(file), "--model", "iris@1", "--store", str(folder / "store"), "--json"]
    found = CliRunner().invoke(berth, command)
    assert found.stdout, repr(found.exception)
    assert found.exit_code in (0, 1)
    report = json.loads(found.stdout)["models"][0]
    return {feature["name"]: feature["observed"] for feature in report["features"]}, report


def log_line(number: int, protocol: str, request: Any, prediction: int, **fields: Any) -> str:
    known = {"model": "iris", "version": "1", "status": 200, "request_id": str(number), "protocol": protocol}
    return json.dumps({**known, "request": request, "response": {"predictions": [prediction]}} | fields)


def test_every_file_format_gives_the_counts_of_csv(
    added: tuple[Path, Entry, np.ndarray, list[str]], tmp_path: Path
) -> None:
    folder, _, rows, names = added
    wanted, _ = observed(folder, write_rows(tmp_path / "rows.csv", rows, names))
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows.tolist()))
    assert observed(folder, tmp_path / "rows.jsonl")[0] == wanted
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.table(dict(zip(names, rows.T, strict=True))), tmp_path / "rows.parquet")
    assert observed(folder, tmp_path / "rows.parquet")[0] == wanted


def test_rows_that_cannot_be_read_are_counted_and_left_out(
    added: tuple[Path, Entry, np.ndarray, list[str]], tmp_path: Path
) -> None:
    folder, _, rows, names = added
    wanted, _ = observed(folder, write_rows(tmp_path / "rows.csv", rows, names))
    lines = [json.dumps(row) for row in rows.tolist()]
    for at, bad in ((0, "[1, 2]"), (70, "nothing"), (152, '["a", 1, 1, 1]')):
        lines.insert(at, bad)
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    found, report = observed(folder, tmp_path / "rows.jsonl")
    assert (found, report["rows"], report["unreadable"]) == (wanted, 150, 3)


def test_a_payload_log_of_every_protocol_is_compared(
    added: tuple[Path, Entry, np.ndarray, list[str]], tmp_path: Path
) -> None:
    folder, _, rows, names = added
    wanted, _ = observed(folder, write_rows(tmp_path / "rows.csv", rows, names))
    lines = []
    for at, row in enumerate(rows.tolist()[:140]):
        tensor = {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": row}
        csv = ",".join(names) + "\n" + ",".join(map(repr, row)) + "\n"
        record = dict(zip(names, row, strict=True))
        ways = [("predict", {"features": row}), ("predict", {"features": record}), ("v2", {"inputs": [tensor]}),
                ("v1", {"instances": [row]}), ("mlflow", {"dataframe_records": [record]}), ("mlflow", csv),
                ("message", {"instances": [record]}), ("message", {"features": [row]})]  # fmt: skip
        lines.append(log_line(at, *ways[at % len(ways)], at % 3))
    chunk = rows.tolist()[140:]
    predicted: list[dict[str, Any]] = [{"prediction": at % 3} for at in range(140, 150)]
    chunk.insert(4, ["bad"])
    predicted.insert(4, {"error": "no number", "code": "invalid_input", "line": 5})
    lines.append(log_line(140, "stream", {"instances": chunk}, 0, response={"predictions": predicted}))
    lines += [
        log_line(200, "predict", {"truncated": True, "bytes": 9}, 0),
        log_line(201, "predict", {"features": ["***"] * 4}, 0),
        log_line(202, "predict", {"features": [0, 0, 0, 0]}, 0, model="other"),
        log_line(203, "predict", {"features": [0, 0, 0, 0]}, 0, status=400),
        log_line(204, "stream", {"truncated": True, "bytes": 9}, 0),
        log_line(205, "message", None, 0),
    ]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"request_id": "cut']))
    found, report = observed(folder, tmp_path / "log.jsonl")
    prediction = found.pop("prediction")
    assert (found, report["rows"], report["unreadable"]) == (wanted, 150, 4)
    assert prediction == [50, 50, 50, 0, 0]


def test_what_cannot_be_compared_is_said(added: tuple[Path, Entry, np.ndarray, list[str]]) -> None:
    folder = added[0]
    store = ["--store", str(folder / "store")]
    usage = CliRunner().invoke(berth, ["drift"])
    assert usage.exit_code == 2
    file = CliRunner().invoke(berth, ["drift", "rows.csv", *store])
    assert file.exit_code == 2
    entry = add_version(folder / "store", folder / "iris.joblib", AddRequest("plain"), LoadOptions())
    assert entry.name == "plain"
    bare = CliRunner().invoke(berth, ["drift", str(folder / "sample.csv"), "--model", "plain", *store])
    assert "no profile: add the model with --sample" in str(bare.exception)
    nobody = CliRunner().invoke(berth, ["drift", "http://127.0.0.1:9"])
    assert "127.0.0.1:9/drift" in str(nobody.exception)
