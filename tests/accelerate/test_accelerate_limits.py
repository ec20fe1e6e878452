"""What the plain model refuses, the accelerated form refuses too: missing, infinite, unknown, too large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from accelerating import Both, make_both
from berth.accelerate.limits import FLOAT32_EDGE, ColumnLimits, decode_limits, encode_limits, make_check
from berth.accelerate.make import Accelerated
from berth.accelerate.session import MISSING
from berth.tensors.arrays import Array, TensorSpec

pytest.importorskip("skl2onnx", reason="acceleration needs skl2onnx")
pytest.importorskip("onnxruntime", reason="acceleration needs onnxruntime")

FRAME = pd.DataFrame(
    {
        "age": [20.0, np.nan, 40.0, 50.0] * 10,
        "city": ["Rome", "Oslo", "Rome", "Bern"] * 10,
        "level": [1, 2, 3, 1] * 10,
        "member": [True, False, True, True] * 10,
    }
)
SENT: dict[str, Array] = {
    "age": np.array([30.0]),
    "city": np.array(["Rome"], object),
    "level": np.array([2]),
    "member": np.array([True]),
}


def _people(handle_unknown: str, *, fill: bool = False) -> Any:
    encode = OneHotEncoder(handle_unknown=handle_unknown)
    text = make_pipeline(SimpleImputer(strategy="most_frequent"), encode) if fill else encode
    columns = ColumnTransformer(
        [
            ("text", text, ["city", "level"] if not fill else ["city"]),
            ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["age"]),
            ("rest", "passthrough", ["member"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression()).fit(FRAME, ["no", "yes", "yes", "no"] * 10)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Both]:
    """The pipeline with each way to meet the unknown."""
    kinds = {"error": _people("error"), "ignore": _people("ignore"), "filled": _people("error", fill=True)}
    return {name: make_both(estimator, tmp_path_factory.mktemp(name), 300) for name, estimator in kinds.items()}


def _answers(both: Both, **changed: Any) -> list[Any]:
    """What both forms say of one row: the prediction, or that they refuse it."""
    said = []
    for form in (both.plain, both.fast):
        assert form is not None, str(both.result)
        row = SENT | {name: np.array([value], SENT[name].dtype) for name, value in changed.items()}
        try:
            said.append(
                form.predict({spec.name: row[spec.name] for spec in both.plain.inputs}, both.names)["prediction"][0]
            )
        except ValueError:
            said.append("refused")
    return said


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({}, False),
        ({"age": np.nan}, False),
        ({"age": np.inf}, True),
        ({"city": "Bern"}, False),
        ({"city": "Paris"}, True),
        ({"city": None}, True),
        ({"level": 3}, False),
        ({"level": 4}, True),
        ({"member": False}, False),
    ],
)
def test_unknown_categories_are_errors(changed: dict[str, Any], refused: bool, people: dict[str, Both]) -> None:
    said = _answers(people["error"], **changed)
    assert said[0] == said[1]
    assert (said[1] == "refused") == refused


@pytest.mark.parametrize("city", ["Rome", "Paris", "", "Rome ", "Rome\0", MISSING, None])
def test_unknown_categories_are_ignored(city: str | None, people: dict[str, Both]) -> None:
    said = _answers(people["ignore"], city=city)
    assert said[0] == said[1] != "refused"


@pytest.mark.parametrize("city", ["Rome", "Oslo", None])
def test_missing_text_is_filled_in(city: str | None, people: dict[str, Both]) -> None:
    said = _answers(people["filled"], city=city)
    assert said[0] == said[1] != "refused"


@pytest.mark.parametrize("drop", [None, "first", "if_binary"])
def test_dropped_categories(drop: str | None, tmp_path: Path) -> None:
    columns = ColumnTransformer([("text", OneHotEncoder(drop=drop), ["city", "member"])], remainder="passthrough")
    frame = FRAME.fillna(1.0)
    both = make_both(make_pipeline(columns, LogisticRegression()).fit(frame, [0, 1, 1, 0] * 10), tmp_path, 300)
    assert isinstance(both.result, Accelerated), str(both.result)
    for city in ("Rome", "Oslo", "Bern", "Paris"):
        plain, fast = _answers(both, city=city)
        assert plain == fast


ENCODERS = {
    "one_hot": OneHotEncoder(),
    "ordinal": OrdinalEncoder(encoded_missing_value=-5),
    "ordinal_unknown": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_missing_is_a_category(name: str, tmp_path: Path) -> None:
    """One encoder for text, one for numbers, both with values missing in training."""
    frame = pd.DataFrame({"city": ["Rome", None, "Oslo", "Rome"] * 10, "level": [1.0, np.nan, 3.0, 1.0] * 10})
    encoders = [(column, clone(ENCODERS[name]), [column]) for column in frame.columns]
    estimator = make_pipeline(ColumnTransformer(encoders), StandardScaler(with_mean=False), LogisticRegression())
    both = make_both(estimator.fit(frame, [0, 1, 1, 0] * 10), tmp_path, 300)
    assert isinstance(both.result, Accelerated), str(both.result)
    sent = {"city": np.array(["Rome", None, "Oslo"], object), "level": np.array([1.0, np.nan, 3.0])}
    plain, fast = both.ask(sent)
    np.testing.assert_allclose(fast["probabilities"], plain["probabilities"], rtol=0, atol=1e-12)


def test_the_message_names_the_column() -> None:
    spec = TensorSpec("features", "FP64", (-1, 2), ("width", "height"))
    check = make_check({"features": (ColumnLimits(), ColumnLimits(missing=False, huge=False, infinite=False))}, [spec])
    check({"features": np.array([[np.nan, 1.0], [np.inf, 2.0], [1e300, 3.0]])})
    for bad, word in ((np.nan, "missing"), (np.inf, "infinite"), (1e39, "too large")):
        with pytest.raises(ValueError, match=f"height is {word}"):
            check({"features": np.array([[1.0, bad]])})


@pytest.mark.parametrize("rows", [1, 40])
def test_a_large_number_that_is_accepted_stays(rows: int) -> None:
    """A sum of squares above the edge's says that it is worth a look, and no more."""
    spec = TensorSpec("x", "FP64", (-1, 2))
    check = make_check({"x": (ColumnLimits(missing=False, infinite=False, huge=False),) * 2}, [spec])
    inside = np.full((rows, 2), np.nextafter(FLOAT32_EDGE, 0))
    check({"x": inside})
    check({"x": -inside})
    for bad, word in ((FLOAT32_EDGE, "too large"), (-FLOAT32_EDGE, "too large"), (1e300, "too large"), (np.nan, "NaN")):
        array = np.zeros((rows, 2))
        array[-1, 1] = bad
        with pytest.raises(ValueError, match=word):
            check({"x": array})


def test_limits_survive_the_file() -> None:
    limits = {"city": (ColumnLimits(False, True, True, ("a", "b")),), "age": (ColumnLimits(),)}
    assert decode_limits(encode_limits(limits)) == limits


def test_wrong_width_is_refused(tmp_path: Path) -> None:
    features, target = load_iris(return_X_y=True)
    both = make_both(LogisticRegression(max_iter=500).fit(features, target), tmp_path, 100)
    assert both.fast is not None
    with pytest.raises(ValueError, match="features"):
        both.fast.predict({"features": np.zeros((1, 3))}, ["prediction"])
