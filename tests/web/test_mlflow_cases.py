"""The same bodies to MLflow's own scoring server and to Berth: the same predictions, or rejected by both."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from requested_models import ESTIMATORS
from web.asking import MakeApp

# (media type, body) -> predictions; None where it is rejected.
Score: TypeAlias = Callable[[str, str], Any]
JSON, CSV = "application/json", "text/csv"
PERSON, OTHER = {"age": 50.0, "city": "Rome", "member": 1.0}, {"age": 20.0, "city": "Oslo", "member": 0.0}
COLUMNS = {name: [PERSON[name], OTHER[name]] for name in PERSON}
SPLIT = {"columns": ["city", "age", "member"], "data": [["Rome", 50.0, 1.0], ["Oslo", 20.0, 0.0]]}
CASES: dict[str, tuple[str, str, Any]] = {
    "split": ("people", JSON, {"dataframe_split": SPLIT}),
    "split with an index": ("people", JSON, {"dataframe_split": {**SPLIT, "index": [5, 7]}}),
    "records": ("people", JSON, {"dataframe_records": [PERSON, OTHER]}),
    "records with more columns": ("people", JSON, {"dataframe_records": [{**PERSON, "id": 1}, {**OTHER, "id": 2}]}),
    "records without a column": ("people", JSON, {"dataframe_records": [{"age": 50.0, "city": "Rome"}]}),
    "columns": ("people", JSON, {"inputs": COLUMNS}),
    "instances": ("people", JSON, {"instances": [PERSON, OTHER]}),
    "csv": ("people", CSV, "age,city,member\n50.0,Rome,1.0\n20.0,Oslo,0.0\n"),
    "csv with an index": ("people", CSV, ",age,city,member\n0,50.0,Rome,1.0\n"),
    "csv without a column": ("people", CSV, "age,city\n50.0,Rome\n"),
    "NaN": ("gaps", JSON, '{"dataframe_split": {"columns": ["age", "fare"], "data": [[40.0, NaN], [20.0, 1.0]]}}'),
    "null": ("gaps", JSON, {"dataframe_records": [{"age": None, "fare": 4.0}]}),
    "an empty cell": ("gaps", CSV, "age,fare\n40.0,\n20.0,1.0\n"),
    "a matrix": ("matrix", JSON, {"inputs": [[1.0, 2.0], [60.0, 70.0]]}),
    "a matrix as instances": ("matrix", JSON, {"instances": [[1.0, 2.0], [60.0, 70.0]]}),
    "a frame without names": ("matrix", JSON, {"dataframe_split": {"columns": [0, 1], "data": [[1.0, 2.0]]}}),
    "records without names": ("matrix", JSON, {"dataframe_records": [{"0": 1.0, "1": 2.0}]}),
    "two targets": ("targets", JSON, {"inputs": [[1.0, 2.0], [3.0, 4.0]]}),
    "params": ("matrix", JSON, {"inputs": [[1.0, 2.0]], "params": {"temperature": 1}}),
    "two forms": ("matrix", JSON, {"inputs": [[1.0, 2.0]], "instances": [[1.0, 2.0]]}),
    "no form": ("matrix", JSON, {"features": [[1.0, 2.0]]}),
    "a list": ("matrix", JSON, [[1.0, 2.0]]),
    "no JSON": ("matrix", JSON, "{"),
    "a row too short": ("matrix", JSON, {"inputs": [[1.0]]}),
    "another type": ("matrix", "text/plain", "1,2"),
}


def _save(mlflow: Any, name: str, folder: Path) -> None:
    model, sample = ESTIMATORS[name]()
    signature = None if sample is None else mlflow.models.infer_signature(sample, model.predict(sample))
    mlflow.sklearn.save_model(model, folder, serialization_format="pickle", signature=signature, pip_requirements=[])


def _theirs(mlflow: Any, folder: Path) -> Score:
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(str(folder))
    schema = model.metadata.get_input_schema()

    def score(media: str, body: str) -> Any:
        try:
            answer = scoring_server.invocations(body, media, model, schema)
        except mlflow.exceptions.MlflowException:
            return None
        return json.loads(answer.response)["predictions"] if answer.status == 200 else None

    return score


@pytest.fixture(scope="module")
def scores(make_app: MakeApp, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Score, Score]]:
    """For each model MLflow's server and Berth, which read the same folder."""
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        import mlflow.sklearn

        store = tmp_path_factory.mktemp("store")
        found: dict[str, tuple[Score, Score]] = {}
        for name in dict.fromkeys(model for model, _, _ in CASES.values()):
            folder = tmp_path_factory.mktemp("mlflow") / name
            _save(mlflow, name, folder)
            add_version(store, folder, AddRequest(name, "1"), LoadOptions(accelerate="off"))
            client = make_app(store, models=name)

            def ours(media: str, body: str, client: Any = client) -> Any:
                answer = client.post("/invocations", data=body, content_type=media)
                assert answer.status_code in (200, 400, 415)
                return answer.json.get("predictions")

            found[name] = (_theirs(mlflow, folder), ours)
    return found


@pytest.mark.filterwarnings("ignore")  # of MLflow and of pandas
@pytest.mark.parametrize("case", CASES)
def test_the_same_answer_as_mlflow(scores: dict[str, tuple[Score, Score]], case: str) -> None:
    model, media, document = CASES[case]
    body = document if isinstance(document, str) else json.dumps(document)
    theirs, ours = (score(media, body) for score in scores[model])
    if model == "targets":
        np.testing.assert_allclose(ours, theirs)
    else:
        assert ours == theirs
