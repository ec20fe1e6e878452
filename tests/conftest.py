"""A store of real models and the application over it, shared by every test that needs some; how tests are named.

scikit-learn and pandas are imported where they are needed: every process of `make test` reads this file, even the one
that runs no test, and a test of one small file should not wait for them.
"""

from __future__ import annotations

import gc
import json
import logging
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from berth.app import create_app
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import DATATYPES, TensorSpec
from longest import LONGEST
from web.asking import MakeApp, ReadLog

_HERE = Path(__file__).parent
# What `client` serves; iris without a version is iris@1.
SERVED = "iris@1,iris@2,people,prices"
# gzip's shortest file; what is shorter tells no time.
_SHORTEST_ARCHIVE = 20
_ECHO = """
def load(directory):
    return dict
"""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes that are no text name no test: an archive's tell the time, and then two processes know other tests."""
    if isinstance(val, bytes) and len(val) >= _SHORTEST_ARCHIVE and val.translate(None, string.printable.encode()):
        return argname
    return None


def pytest_collection() -> None:
    """Nothing that is made while tests are collected is garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end: no search for garbage looks at them: half a second each time."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first; the others stay as they are."""
    place = {_HERE / name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def _add(store: Path, folder: Path, name: str, version: str, estimator: Any, sample: Any = None) -> None:
    import joblib

    file = folder / f"{name}-{version}.joblib"
    joblib.dump(estimator, file)
    csv = folder / f"{name}-{version}.csv"
    if sample is not None:
        sample.to_csv(csv, index=False)
    request = AddRequest(name, version, sample=None if sample is None else csv)
    add_version(store, file, request, LoadOptions())


def _people() -> tuple[Any, Any]:
    """A pipeline over a frame with a string column: age FP64, city BYTES, member FP64."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.DataFrame(
        {"age": [20.0, 30.0, 40.0, 50.0], "city": ["Rome", "Oslo", "Rome", "Bern"], "member": [1.0, 0.0, 1.0, 0.0]}
    )
    columns = ColumnTransformer(
        [("city", OneHotEncoder(handle_unknown="ignore"), ["city"]), ("numbers", StandardScaler(), ["age", "member"])]
    )
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, ["no", "no", "yes", "yes"])
    return pipeline, frame


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """iris@1 (logistic regression, named columns), iris@2 (tree, none), people (strings) and prices."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    store, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("artifacts")
    features, target = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=1000).fit(features, target)
    _add(store, folder, "iris", "1", model, features)
    _add(store, folder, "iris", "2", DecisionTreeClassifier(random_state=0).fit(features.to_numpy(), target))
    people, frame = _people()
    _add(store, folder, "people", "1", people, frame)
    line = np.arange(20.0).reshape(10, 2)
    _add(store, folder, "prices", "1", LinearRegression().fit(line, line.sum(axis=1)))
    return store


@pytest.fixture(scope="session")
def echo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, echo@1: an input [-1, -1] of each datatype under its name in lower case, each also an output."""
    pytest.importorskip("berth.loaders.code", reason="the format python is not there")
    store, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("echo")
    (folder / "model.py").write_text(_ECHO, "utf-8")
    specs = tuple(TensorSpec(datatype.lower(), datatype, (-1, -1)) for datatype in DATATYPES)
    request = AddRequest("echo", "1", "python", inputs=specs, outputs=specs)
    add_version(store, folder, request, LoadOptions(allow_code=True))
    return store


@pytest.fixture(scope="session")
def make_app(tmp_path_factory: pytest.TempPathFactory) -> MakeApp:
    """make_app(store, max_rows=10, …): a client of an application whose models have loaded or failed.

    Each keyword is a setting's name in lower case without BERTH_; `start=False` leaves the models loading.
    """

    def make(store: Path, *, start: bool = True, **settings: object) -> FlaskClient:
        environ = {"BERTH_MODEL_STORE": str(store), "BERTH_RUN_DIR": str(tmp_path_factory.mktemp("run"))}
        environ |= {"BERTH_WORKERS": "1", "BERTH_LOG_LEVEL": "error"}
        environ |= {f"BERTH_{name.upper()}": str(value) for name, value in settings.items()}
        app = create_app(environ)
        if start:
            app.extensions["berth"].start()
            assert app.extensions["berth"].catalog.wait(20)
        return app.test_client()

    return make


@pytest.fixture(scope="session")
def client(make_app: MakeApp, store: Path) -> FlaskClient:
    """The application over the whole `store`."""
    return make_app(store, models=SERVED)


@pytest.fixture(scope="session")
def echo_client(make_app: MakeApp, echo_store: Path) -> FlaskClient:
    """The application over `echo_store`."""
    return make_app(echo_store, allow_code=True)


@pytest.fixture(scope="session")
def iris_rows() -> Sequence[Sequence[float]]:
    """Three rows that iris@1 answers with 0, 1 and 2."""
    from sklearn.datasets import load_iris

    rows: list[list[float]] = load_iris().data[[0, 60, 120]].tolist()
    return rows


@pytest.fixture
def read_log(capfd: pytest.CaptureFixture[str]) -> Iterator[ReadLog]:
    """read_log(): the JSON lines that the server has written since the last call."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: [json.loads(line) for line in capfd.readouterr().out.split("\n") if line]
    root.handlers[:] = handlers
    root.setLevel(level)
