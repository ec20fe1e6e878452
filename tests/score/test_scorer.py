"""berth.batch.Scorer: equal to the server's answers, small to send, loaded once in each process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from berth.batch import Scorer
from berth.errors import InvalidInput, StoreError

IRIS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])
PEOPLE: dict[str, Any] = {
    "age": np.array([20.5, 50.0]),
    "city": np.array(["Rome", "Oslo"], object),
    "member": [1.0, 0.0],
}
# A child that is sent a Scorer, and how often it loads.
_CHILD = """
import pickle, sys
from berth.batch import _LOADED
scorer, batch = pickle.load(sys.stdin.buffer)
answers = [scorer(batch)["prediction"].tolist() for _ in range(3)]
print(answers[0], len(_LOADED))
"""


def test_a_dict_of_arrays(store: Path, client: FlaskClient) -> None:
    scorer = Scorer(store, "people@1", outputs=["prediction", "probabilities"], keep=["id"])
    found = scorer({"id": [7, 8], **PEOPLE})
    rows = [{name: values[at] for name, values in PEOPLE.items()} for at in range(2)]
    body = {"features": rows, "model": "people", "outputs": ["prediction", "probabilities"]}
    answer = client.post("/predict", json=body).get_json()
    assert {name: array.tolist() for name, array in found.items()} == {
        "id": [7, 8],
        "prediction": answer["prediction"],
        "probabilities": answer["probabilities"],
    }


def test_a_matrix_without_names(store: Path) -> None:
    scorer = Scorer(f"file://{store}", "iris@2")
    whole = scorer({"features": IRIS})["prediction"]
    columns = {f"c{at}": IRIS[:, at] for at in range(4)}
    assert scorer(columns)["prediction"].tolist() == whole.tolist()


def test_it_is_sent_to_another_process(store: Path) -> None:
    scorer = Scorer(store, "people")
    sent = pickle.dumps((scorer, PEOPLE))
    assert len(pickle.dumps(scorer)) < 1000
    done = subprocess.run([sys.executable, "-c", _CHILD], input=sent, check=True, capture_output=True)
    assert done.stdout.decode() == f"{scorer(PEOPLE)['prediction'].tolist()} 1\n"


def test_what_it_does_not_take(store: Path) -> None:
    scorer = Scorer(store, "people@1", keep=["id"])
    with pytest.raises(InvalidInput, match="no column 'id' to keep"):
        scorer(PEOPLE)
    with pytest.raises(InvalidInput, match="city"):
        Scorer(store, "people@1")({name: values for name, values in PEOPLE.items() if name != "city"})
    with pytest.raises(StoreError, match="no version '9'"):
        Scorer(store, "people@9")


def test_record_batches(store: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    scorer = Scorer(store, "people@1", outputs=["prediction", "probabilities"], keep=["id"])
    batch = pa.RecordBatch.from_pydict({"id": ["a", "b"], **{name: list(values) for name, values in PEOPLE.items()}})
    (found,) = scorer.map_batches([batch, batch.slice(0, 0)])
    wanted = scorer({"id": ["a", "b"], **PEOPLE})
    assert found.to_pydict() == {name: array.tolist() for name, array in wanted.items()}
