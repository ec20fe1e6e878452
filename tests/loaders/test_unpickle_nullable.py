"""pandas' arrays with gaps, and those over Arrow, in files: arrays of numpy, without pyarrow."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions
from berth.loaders.unpickle.loading import default_allow, load_pickle, read_globals
from berth.loaders.unpickle.nullable_data import ArrowType, new_buffer, restore_array
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version

ARROW = json.loads(
    (Path(__file__).parents[1] / "corpus" / "arrow" / "pandas-3.1.1-pyarrow-26.0.1.json").read_text("utf-8")
)
NULLABLE: dict[str, tuple[Any, list[Any]]] = {
    "Int64": (pd.array([1, None, 3], dtype="Int64"), [1.0, None, 3.0]),
    "UInt8 without gaps": (pd.array([1, 2], dtype="UInt8"), [1, 2]),
    "Float64": (pd.array([1.5, None], dtype="Float64"), [1.5, None]),
    "boolean": (pd.array([True, None], dtype="boolean"), [True, None]),
    "boolean without gaps": (pd.array([True, False], dtype="boolean"), [True, False]),
    "categories": (pd.Categorical(pd.array([2, 1], dtype="Int64")), [2, 1]),
    "series": (pd.Series([1, None], dtype="Int64"), [1.0, None]),
    "index": (pd.Index([1, 2], dtype="Int64"), [1, 2]),
}


def _values(found: Any) -> list[Any]:
    """As a list, in which what is missing is None."""
    return [None if value is pd.NA or value is None or value != value else value for value in np.asarray(found)]


def _read(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    assert all(name.allowed for name in read_globals(path, default_allow()))
    return load_pickle(path, default_allow())


@pytest.mark.parametrize("how", ["3", "5", "joblib"])
@pytest.mark.parametrize("name", NULLABLE)
def test_arrays_with_gaps_become_arrays_of_numpy(name: str, how: str, tmp_path: Path) -> None:
    given, wanted = NULLABLE[name]
    path = tmp_path / "m.pkl"
    if how == "joblib":
        joblib.dump([given, given], path)
        first, second = _read(path, path.read_bytes())
    else:
        first, second = _read(path, pickle.dumps([given, given], int(how)))
    assert first is second
    assert _values(first) == wanted


@pytest.mark.parametrize("how", ["4", "5", "joblib"])
@pytest.mark.parametrize("name", ARROW["cases"])
def test_arrays_over_arrow_are_read(name: str, how: str, tmp_path: Path) -> None:
    case = ARROW["cases"][name]
    assert _values(_read(tmp_path / "m.pkl", base64.b64decode(case["files"][how]))) == case["values"]


def test_arrays_over_arrow_are_read_without_pyarrow(tmp_path: Path) -> None:
    """In a child in which it cannot be imported, as in the images."""
    for name, case in ARROW["cases"].items():
        (tmp_path / f"{name}.pkl".replace("/", "-")).write_bytes(base64.b64decode(case["files"]["5"]))
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from berth.loaders.unpickle.loading import default_allow, load_pickle\n"
        "print(sum(load_pickle(path, default_allow()) is not None for path in Path(sys.argv[1]).iterdir()))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (str(len(ARROW["cases"])), "")


def test_a_type_of_arrow_that_is_not_supported_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"date32\[day\].*to_numpy\(\)"):
        _read(tmp_path / "m.pkl", base64.b64decode(ARROW["unsupported"]))


def test_dtypes_in_a_series_are_named_and_the_file_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"holds a .*DType, .*with a list in its place"):
        _read(tmp_path / "m.pkl", pickle.dumps(pd.DataFrame({"a": [1]}).dtypes))


def _buffer(*values: int, dtype: str = "<i8") -> Any:
    return new_buffer(np.array(values, dtype).tobytes())


@pytest.mark.parametrize(
    "parts",
    [
        (ArrowType("int64"), 2, 0, 0, [None, _buffer(1)], [], None),  # fewer numbers than it says
        (ArrowType("int64"), 1, 0, 5, [None, _buffer(1)], [], None),
        (ArrowType("int64"), -1, 0, 0, [None, _buffer(1)], [], None),
        (ArrowType("int64"), 2**60, 0, 0, [None, _buffer(1)], [], None),
        (ArrowType("int64"), 1, 0, 0, [None, None], [], None),
        (ArrowType("int64"), 1, 0, 0, [new_buffer(b""), _buffer(1)], [], None),  # no bits for its gaps
        (ArrowType("int64"), 1, 0, 0, [None, b"12345678"], [], None),  # no buffer at all
        (ArrowType("large_string"), 1, 0, 0, [None, _buffer(0, 9), new_buffer(b"abc")], [], None),  # past the end
        (ArrowType("large_string"), 2, 0, 0, [None, _buffer(0, 3, 1), new_buffer(b"abc")], [], None),  # backwards
        (ArrowType("large_string"), 1, 0, 0, [None, _buffer(-2, 3), new_buffer(b"abc")], [], None),
        (ArrowType("int64"), 1, 0, 0, [None, _buffer(1)], [1], None),
        ("int64", 1, 0, 0, [None, _buffer(1)], [], None),
    ],
)
def test_arrays_over_arrow_that_lie_are_damaged_files(parts: Any) -> None:
    with pytest.raises(LoadError, match="damaged"):
        restore_array(parts)


def test_the_missing_value_of_pandas_gets_no_state(tmp_path: Path) -> None:
    marked = pickle.dumps(pd.NA, 2)[:-1] + b"}X\x01\x00\x00\x00aK\x01sb."
    (tmp_path / "m.pkl").write_bytes(marked)
    with pytest.raises(UnsafeArtifact, match="a state set on"):
        load_pickle(tmp_path / "m.pkl", default_allow())
    assert not hasattr(pd.NA, "a")


@pytest.mark.filterwarnings("ignore:Skipping features")
def test_a_model_over_a_frame_with_gaps_is_served_and_accelerated(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "count": pd.array([1, None, 3, 4] * 10, dtype="Int64"),
            "share": pd.array([0.5, 1.5, None, 2.5] * 10, dtype="Float64"),
            "member": pd.array([True, False, None, True] * 10, dtype="boolean"),
        }
    )
    model = make_pipeline(SimpleImputer(missing_values=pd.NA), LogisticRegression()).fit(frame, [0, 1, 1, 0] * 10)
    joblib.dump(model, tmp_path / "m.joblib")
    frame.head(8).to_csv(tmp_path / "X.csv", index=False)
    options = LoadOptions(accelerate="auto")
    request = AddRequest("m", sample=tmp_path / "X.csv")
    served = open_version(add_version(tmp_path / "store", tmp_path / "m.joblib", request, options), options, "warn")
    assert served.accelerated
    rows = np.array([[1.0, 0.5, 1.0], [np.nan, 1.5, 0.0], [3.0, np.nan, np.nan]])
    answer = served.predict({"features": rows}, ["probabilities"])["probabilities"]
    np.testing.assert_allclose(answer, model.predict_proba(frame.head(3)), atol=1e-6)
