"""What a CSV of typical inputs tells of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from berth.errors import LoadError
from berth.publishing.samples import Sample, decode_sample, describe_sample, guess_datatype, read_sample
from berth.tensors.arrays import TensorSpec

MATRIX = TensorSpec("features", "FP64", (-1, 2))


def _sample(folder: Path, text: str) -> Sample:
    path = folder / "sample.csv"
    path.write_text(text, "utf-8")
    return read_sample(path)


@pytest.mark.parametrize(
    ("cells", "datatype"),
    [
        (["1", "-2"], "INT64"),
        (["1", None], "FP64"),
        (["1", "2.5"], "FP64"),
        (["1e3", ".5"], "FP64"),
        ([None, None], "FP64"),
        (["true", "False"], "BOOL"),
        (["true", None], "FP64"),
        (["true", "yes"], "BYTES"),
        (["1", "a"], "BYTES"),
        (["1" * 30, "2"], "FP64"),
        (["0x10", "2"], "BYTES"),
    ],
)
def test_the_narrowest_datatype_that_holds_every_cell(cells: list[str | None], datatype: str) -> None:
    assert guess_datatype(cells) == datatype


def test_a_numeric_sample_of_a_silent_artifact_is_a_matrix(tmp_path: Path) -> None:
    sample = _sample(tmp_path, "count,share\n1,0.5\n2,\n")
    (spec,) = describe_sample(sample, ())
    assert spec == TensorSpec("features", "FP64", (-1, 2), ("count", "share"))
    np.testing.assert_array_equal(decode_sample(sample, [spec])["features"], [[1, 0.5], [2, np.nan]])


def test_a_sample_names_the_columns_of_a_matrix_and_may_reorder_known_ones(tmp_path: Path) -> None:
    sample = _sample(tmp_path, "b,a\n1,2\n")
    assert describe_sample(sample, [MATRIX]) == (replace(MATRIX, columns=("b", "a")),)
    known = replace(MATRIX, columns=("a", "b"))
    assert describe_sample(sample, [known]) == (known,)
    np.testing.assert_array_equal(decode_sample(sample, [known])["features"], [[2.0, 1.0]])


def test_a_frame_takes_the_samples_datatypes_and_leaves_other_columns(tmp_path: Path) -> None:
    sample = _sample(tmp_path, "target,city,age\n1,Rome,30\n0,,31\n")
    told = (TensorSpec("age", "FP64", (-1,)), TensorSpec("city", "BYTES", (-1,)))
    specs = describe_sample(sample, told)
    assert [(spec.name, spec.datatype) for spec in specs] == [("age", "INT64"), ("city", "BYTES")]
    tensors = decode_sample(sample, specs)
    assert tensors["age"].tolist() == [30, 31]
    assert tensors["city"].tolist() == ["Rome", None]


def test_the_one_text_column_may_have_any_name(tmp_path: Path) -> None:
    sample = _sample(tmp_path, "review\ngood\nbad\n")
    text = (TensorSpec("text", "BYTES", (-1,)),)
    assert describe_sample(sample, text) == text
    assert decode_sample(sample, text)["text"].tolist() == ["good", "bad"]


@pytest.mark.parametrize(
    ("text", "told", "said"),
    [
        ("a,b,target\n1,2,0\n", [MATRIX], "leave the target out"),
        ("a\n1\n", [TensorSpec("a", "FP64", (-1,)), TensorSpec("z", "FP64", (-1,))], "lacks the column 'z'"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, text: str, told: list[TensorSpec], said: str) -> None:
    with pytest.raises(LoadError, match=said):
        describe_sample(_sample(tmp_path, text), told)


@pytest.mark.parametrize("text", ["", "a,b\n", "a,b\n1\n", 'a\n"x\n'])
def test_a_broken_file_is_a_load_error_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(LoadError, match=r"sample\.csv"):
        _sample(tmp_path, text)
