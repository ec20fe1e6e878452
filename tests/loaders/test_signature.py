"""What estimators tell of their inputs and outputs, and the table that is made of what is sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.loaders.formats import load
from berth.tensors.arrays import TensorSpec
from berth.tensors.schema import required
from estimator_files import OPTIONS, ask, save, save_and_load
from estimator_table import ESTIMATORS, inputs_of


@pytest.mark.parametrize("name", ESTIMATORS)
def test_specs_are_those_of_the_answers(name: str, tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS[name]()
    loaded = save_and_load(estimator, tmp_path)
    inputs, outputs = inputs_of(rows, loaded.inputs), ask(loaded, rows)
    for spec, tensors in [(s, inputs) for s in loaded.inputs] + [(s, outputs) for s in required(loaded.outputs)]:
        assert tensors[spec.name].ndim == len(spec.shape)
        assert all(want in (-1, got) for want, got in zip(spec.shape, tensors[spec.name].shape, strict=True)), spec
    for spec in loaded.outputs:
        assert spec.labels is None or len(spec.labels) == spec.shape[-1]


def specs(name: str, directory: Path) -> tuple[list[Any], list[Any]]:
    loaded = save_and_load(ESTIMATORS[name]()[0], directory)
    inputs = [(spec.name, spec.datatype, spec.shape) for spec in loaded.inputs]
    outputs = [spec for spec in loaded.outputs if not spec.optional]
    return inputs, [(spec.name, spec.datatype, spec.shape, spec.labels) for spec in outputs]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("svc", ["decision_function"]),
        ("isolation_forest", ["decision_function", "score_samples"]),
        ("kmeans", ["transform"]),
        ("logistic", []),
    ],
)
def test_methods_that_say_more_are_optional_outputs(name: str, wanted: list[str], tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS[name]()
    loaded = save_and_load(estimator, tmp_path)
    assert [spec.name for spec in loaded.outputs if spec.optional] == wanted
    inputs = inputs_of(rows, loaded.inputs)
    for method in wanted:
        np.testing.assert_allclose(loaded.predict(inputs, [method])[method], getattr(estimator, method)(rows))


MATRIX = [("features", "FP64", (-1, 4))]
PEOPLE = [
    ("town", "BYTES", (-1,)),
    ("age", "FP64", (-1,)),
    ("income", "FP64", (-1,)),
    ("member", "FP64", (-1,)),
    ("plan", "BYTES", (-1,)),
]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("logistic", MATRIX),
        ("logistic_frame", MATRIX),
        ("scaled_frame_output", MATRIX),
        ("grid_search", MATRIX),
        ("columns", PEOPLE),
        # No selector chooses the truths: requests may leave them out.
        ("column_selectors", [("member", "BYTES", (-1,)) if spec[0] == "member" else spec for spec in PEOPLE]),
        ("column_search", PEOPLE),
        ("boosting_categories", PEOPLE),
        ("encoded_frame", [("town", "BYTES", (-1,)), ("plan", "BYTES", (-1,))]),
        ("object_matrix", [("x0", "BYTES", (-1,)), ("x1", "BYTES", (-1,))]),
        ("integer_categories", [("floor", "INT64", (-1,)), ("lift", "BOOL", (-1,)), ("area", "FP64", (-1,))]),
        ("text_column", [("title", "BYTES", (-1,)), ("pages", "FP64", (-1,))]),
        ("text", [("text", "BYTES", (-1,))]),
        ("text_union", [("text", "BYTES", (-1,))]),
        ("isotonic", []),
    ],
)
def test_inputs_told(name: str, inputs: list[Any], tmp_path: Path) -> None:
    assert specs(name, tmp_path)[0] == inputs


NAMES = ("setosa", "versicolor", "virginica")


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("logistic", [("prediction", "INT64", (-1,), None), ("probabilities", "FP64", (-1, 3), (0, 1, 2))]),
        ("string_labels", [("prediction", "BYTES", (-1,), None), ("probabilities", "FP64", (-1, 3), NAMES)]),
        ("bool_labels", [("prediction", "BOOL", (-1,), None), ("probabilities", "FP64", (-1, 2), (False, True))]),
        ("float_labels", [("prediction", "FP64", (-1,), None), ("probabilities", "FP64", (-1, 2), (0.0, 1.0))]),
        ("svc", [("prediction", "INT64", (-1,), None)]),
        ("voting_hard", [("prediction", "INT64", (-1,), None)]),
        ("linear", [("prediction", "FP64", (-1,), None)]),
        ("targets_linear", [("prediction", "FP64", (-1, 2), None)]),
        ("kmeans", [("prediction", "INT64", (-1,), None)]),
        ("mixture", [("prediction", "INT64", (-1,), None), ("probabilities", "FP64", (-1, 3), (0, 1, 2))]),
        ("isolation_forest", [("prediction", "INT64", (-1,), None)]),
        ("components", [("transformed", "FP64", (-1, 2), None)]),
        (
            "labels_forest",
            [
                ("prediction", "BYTES", (-1, 2), None),
                ("probabilities_0", "FP64", (-1, 3), NAMES),
                ("probabilities_1", "FP64", (-1, 2), ("large", "small")),
            ],
        ),
    ],
)
def test_outputs_told(name: str, outputs: list[Any], tmp_path: Path) -> None:
    found = specs(name, tmp_path)[1]
    assert found == outputs
    assert [[type(label) for label in one[3] or ()] for one in found] == [
        [type(label) for label in one[3] or ()] for one in outputs
    ]


def test_columns_are_the_feature_names(tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS["logistic_frame"]()
    assert save_and_load(estimator, tmp_path).inputs[0].columns == tuple(rows.columns)


def test_a_column_pipeline_takes_its_inputs_in_any_order(tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS["columns"]()
    loaded = save_and_load(estimator, tmp_path)
    inputs = inputs_of(rows, loaded.inputs)
    found = loaded.predict(dict(reversed(inputs.items())), ["probabilities"])
    assert np.array_equal(found["probabilities"], estimator.predict_proba(rows))


def test_a_missing_string_is_missing_in_the_model(tmp_path: Path) -> None:
    """The imputer fills it in; a model that took it for an unknown town would answer otherwise."""
    estimator, rows = ESTIMATORS["columns"]()
    loaded = save_and_load(estimator, tmp_path)
    inputs = inputs_of(rows, loaded.inputs)
    inputs["town"] = np.array([None] * len(rows), object)
    town = estimator[0].named_transformers_["words"][0].statistics_[0]
    found = loaded.predict(inputs, ["probabilities"])["probabilities"]
    assert np.array_equal(found, estimator.predict_proba(rows.assign(town=town)))


@pytest.mark.parametrize("name", ["isotonic", "dummy"])
def test_the_manifest_tells_what_the_estimator_does_not(name: str, tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS[name]()
    spec = TensorSpec("measured", "FP64", (-1, rows.shape[1]))
    loaded = load(tmp_path, replace(save(estimator, tmp_path), inputs=(spec,)), OPTIONS)
    found = loaded.predict({"measured": rows}, ["prediction"])["prediction"]
    assert np.array_equal(found, estimator.predict(rows))
    assert loaded.outputs[0].shape == (-1,)


def test_the_manifest_may_take_a_matrix_apart(tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS["logistic_frame"]()
    inputs = tuple(TensorSpec(name, "FP64", (-1,)) for name in rows.columns)
    loaded = load(tmp_path, replace(save(estimator, tmp_path), inputs=inputs), OPTIONS)
    sent = {name: rows[name].to_numpy() for name in reversed(rows.columns)}
    assert np.array_equal(loaded.predict(sent, ["prediction"])["prediction"], estimator.predict(rows))
