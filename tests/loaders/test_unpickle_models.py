"""Every model of scikit-learn, and every value in it, survives the restricted unpickler."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import Birch

from berth.loaders.unpickle.loading import default_allow, judge_pickle, load_joblib, load_pickle
from estimators import fit_each, fit_unusual

_QUICK = frozenset(
    """
    AdaBoostClassifier BaggingClassifier CalibratedClassifierCV ColumnTransformer CountVectorizer DecisionTreeClassifier
    ExtraTreesRegressor FunctionTransformer GaussianMixture GaussianNB GaussianProcessRegressor
    GradientBoostingClassifier GridSearchCV HistGradientBoostingClassifier IsolationForest KBinsDiscretizer KMeans
    KNeighborsClassifier LinearDiscriminantAnalysis LogisticRegression MLPClassifier NearestNeighbors OneHotEncoder
    PCA Pipeline PolynomialFeatures RandomForestClassifier Ridge SGDClassifier SVC SplineTransformer StackingClassifier
    StandardScaler TfidfVectorizer VotingClassifier
    """.split()  # noqa: SIM905
)
_COMPRESSIONS: tuple[Any, ...] = (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3))


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


class _Contents(pickle.Pickler):
    """Writes records as lists: the bytes between their fields mean nothing, and joblib leaves them unset."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.names:
            return list, (value.tolist(),)
        return NotImplemented


def _content(value: Any) -> bytes:
    """What an object holds, whatever in it is shared."""
    if isinstance(value, Birch):
        # Its leaves are linked in a ring, which cannot be written without a memo.
        return joblib.hash(value.subcluster_centers_).encode()  # type: ignore[no-any-return]
    stream = io.BytesIO()
    pickler = _Contents(stream, 4)
    pickler.fast = True
    pickler.dump(value)
    return stream.getvalue()


def _check_round_trip(label: str, estimator: Any, path: Path) -> None:
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps(estimator, protocol))
        again = load_pickle(path, default_allow())
        assert _content(again) == _content(pickle.loads(path.read_bytes())), label
    joblib.dump(estimator, path)
    assert _content(load_joblib(path, default_allow())) == _content(joblib.load(path)), label
    names, reason = judge_pickle(path, default_allow())
    assert ([item for item in names if not item.allowed], reason) == ([], None), label


def test_usual_estimators_load(tmp_path: Path) -> None:
    fitted = list(fit_each(_QUICK))
    assert len(fitted) >= len(_QUICK)
    for label, model in fitted:
        _check_round_trip(label, model, tmp_path / "m")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of estimators that leave scikit-learn in 1.10
def test_every_estimator_loads(tmp_path: Path) -> None:
    for label, model in (*fit_each(), *fit_unusual()):
        _check_round_trip(label, model, tmp_path / "m")


def test_loaded_model_answers_the_same(tmp_path: Path) -> None:
    rows = np.random.RandomState(0).normal(size=(40, 3))
    for label, model in fit_each(
        frozenset({"RandomForestClassifier", "MLPRegressor", "HistGradientBoostingRegressor", "KMeans"})
    ):
        for compress in _COMPRESSIONS:
            joblib.dump(model, tmp_path / "m", compress=compress)
            again: Any = load_joblib(tmp_path / "m", default_allow())
            assert np.array_equal(again.predict(rows), model.predict(rows)), (label, compress)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("writer", ["pickle", "joblib"])
def test_values_survive(protocol: int, writer: str, tmp_path: Path) -> None:
    value = {
        "plain": [
            None,
            True,
            2**70,
            1.5,
            1j,
            "é",
            b"\xff\x00",
            bytearray(b"ab"),
            (1, (2,)),
            {3},
            frozenset({4}),
            slice(1, None),
        ],
        "C": np.arange(6).reshape(2, 3),
        "F": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">i4"),
        "words": np.array([["a", None], [1, "b"]], dtype=object),
        "text": np.array(["a", "long"]),
        "record": np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", ">f8")]),
        "record-with-object": np.array([(1, "x")], dtype=[("a", "i4"), ("b", "O")]),
        "times": np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
        "scalars": [
            np.float64(1.5),
            np.int8(3),
            np.str_("x"),
            np.str_(""),
            np.datetime64("2020-01-01"),
            np.bool_(True),
        ],
        "masked": np.ma.MaskedArray([1, 2, 3], mask=[False, True, False]),
        "empty": [np.zeros((0, 3)), np.array([], dtype=object), np.float32(0).reshape(())],
        "dtypes": [np.dtype("f8"), np.dtype([("a", "i4", (2,))])],
    }
    path = tmp_path / "m"
    if writer == "joblib":
        joblib.dump(value, path, protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(value, protocol))
    assert repr(load_joblib(path, default_allow())) == repr(joblib.load(path))


def test_old_joblib_layout_loads(tmp_path: Path) -> None:
    """Before 1.2 no padding stood before the bytes; arrays of objects were read by a second unpickler."""
    numbers, words = np.arange(4.0), np.array(["a", None], dtype=object)
    data = b"\x80\x03]("
    for array, raw in ((numbers, numbers.tobytes()), (words, pickle.dumps(words, 2))):
        wrapper = joblib.numpy_pickle.NumpyArrayWrapper(np.ndarray, array.shape, "C", array.dtype)
        del wrapper.numpy_array_alignment_bytes
        data += pickle.dumps(wrapper, 3)[2:-1] + raw
    loaded: Any = load_joblib(_write(tmp_path / "m", data + b"e."), default_allow())
    assert [array.tolist() for array in loaded] == [numbers.tolist(), words.tolist()]


def test_same_array_twice_is_one_array(tmp_path: Path) -> None:
    array = np.arange(3)
    loaded: Any = load_pickle(_write(tmp_path / "m", pickle.dumps([array, array])), default_allow())
    assert loaded[0] is loaded[1]
