"""`berth add --sample` keeps a profile; `berth drift ROWS.csv` compares rows with it."""

from __future__ import annotations

import json
from pathlib import Path

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
