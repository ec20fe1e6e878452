"""The restricted unpickler: nothing of a hostile file runs, and every model of scikit-learn loads."""

from __future__ import annotations

import copyreg
import io
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from berth.errors import BerthError, LoadError, SettingsError, UnsafeArtifact
from berth.unpickle import default_allow, load_joblib, load_pickle, parse_allow, read_globals
from estimators import fit_each, fit_unusual
from malicious import CALLS, DOTTED, EXTENSION, MALICIOUS, REAL, marker, named, stacked, text, whole

# What a child process does with each file, to see that the payloads are real.
_PLAIN_READER = """
import copyreg, pathlib, sys, joblib, warnings
copyreg.add_extension(*{extension!r})
for path in map(pathlib.Path, sys.argv[1:]):
    try:
        joblib.load(path)
    except BaseException:
        pass
"""

_QUICK = frozenset(
    """
    AdaBoostClassifier BaggingClassifier CalibratedClassifierCV ColumnTransformer CountVectorizer DecisionTreeClassifier
    ExtraTreesRegressor FunctionTransformer GaussianMixture GaussianNB GaussianProcessRegressor GradientBoostingClassifier
    GridSearchCV HistGradientBoostingClassifier IsolationForest KBinsDiscretizer KMeans KNeighborsClassifier
    LinearDiscriminantAnalysis LogisticRegression MLPClassifier NearestNeighbors OneHotEncoder PCA Pipeline
    PolynomialFeatures RandomForestClassifier Ridge SGDClassifier SVC SplineTransformer StackingClassifier
    StandardScaler TfidfVectorizer VotingClassifier
    """.split()  # noqa: SIM905
)
_COMPRESSIONS: tuple[Any, ...] = (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3))


class Scaler:
    """A user's own class."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    class Inner:
        """Reached by a dotted name."""


@pytest.fixture
def extension() -> Iterator[None]:
    copyreg.add_extension(*EXTENSION)
    yield
    copyreg.remove_extension(*EXTENSION)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# Hostile files


@pytest.mark.parametrize("name", MALICIOUS)
def test_hostile_file_is_refused_and_runs_nothing(name: str, tmp_path: Path, extension: None) -> None:
    path = tmp_path / "model.joblib"
    MALICIOUS[name](path)
    for load in (load_pickle, load_joblib):
        with pytest.raises((UnsafeArtifact, LoadError)) as refusal:
            load(path, default_allow())
        assert path.name in refusal.value.message or isinstance(refusal.value, LoadError)
    try:
        found = read_globals(path, default_allow())
    except LoadError:
        found = []
    if isinstance(refusal.value, UnsafeArtifact) and name not in _KNOWN_BY_VALUE:
        assert not all(item.allowed for item in found)
    assert not marker(path).exists()
    assert not list(tmp_path.glob("*.ran"))


# Refused for what their values are, which only loading sees.
_KNOWN_BY_VALUE = frozenset(
    {
        "append-allowed", "array-state-twice", "call-codecs-rot13", "class-attribute", "default-factory",
        "newobj-memory", "setstate-allowed",
    }
)  # fmt: skip


@pytest.mark.parametrize("label", CALLS)
def test_refusal_names_the_global(label: str, tmp_path: Path) -> None:
    module, name, _ = CALLS[label]
    path = tmp_path / "model.pkl"
    MALICIOUS[f"call-{label}"](path)
    with pytest.raises(UnsafeArtifact) as refusal:
        load_pickle(path, default_allow())
    module = {"__builtin__": "builtins"}.get(module, module)
    assert f"{module}:{name}" in refusal.value.message


@pytest.mark.parametrize("label", DOTTED)
def test_dotted_name_is_one_name(label: str, tmp_path: Path) -> None:
    module, name = DOTTED[label]
    path = tmp_path / "model.pkl"
    MALICIOUS[label](path)
    with pytest.raises(UnsafeArtifact, match="not allowed") as refusal:
        load_pickle(path, default_allow())
    assert f"{module}:{name}" in refusal.value.message


def test_payloads_are_real(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in REAL]
    for path in paths:
        MALICIOUS[path.name](path)
    script = _PLAIN_READER.format(extension=EXTENSION)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, *map(str, paths)], check=True, timeout=60)
    assert [path.name for path in paths if not marker(path).exists()] == []


def test_refusal_says_all_names_and_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pkl", pickle.dumps([Scaler(2.0), Scaler.Inner()]))
    with pytest.raises(UnsafeArtifact) as refusal:
        load_pickle(path, default_allow())
    assert "set BERTH_PICKLE_ALLOW=test_unpickle:Scaler,test_unpickle:Scaler.Inner" in refusal.value.message
    MALICIOUS["call-os-system"](path)
    with pytest.raises(UnsafeArtifact) as refusal:
        load_pickle(path, default_allow())
    assert "BERTH_PICKLE_ALLOW" not in refusal.value.message


def test_message_is_one_printable_line(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pkl", whole(stacked("evil\nmodule\x1b[2J", "x" * 5000)))
    with pytest.raises(UnsafeArtifact) as refusal:
        load_pickle(path, default_allow())
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 2000


# Damaged files and files that are made to fill the memory


def _bombs() -> dict[str, bytes]:
    array = pickle.dumps(np.zeros(3), 5)
    plain = pickle.dumps([1, "a", 2.5])
    shared = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(60))
    stream = io.BytesIO()
    joblib.dump(np.zeros(3), stream)
    return {
        "empty": b"",
        "garbage": b"this is not a pickle",
        "text": b'{"schema": 1}\n',
        "truncated": plain[:-3],
        "truncated-array": array[:-20],
        "truncated-joblib": stream.getvalue()[:-10],
        "huge-string": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x00abc.",
        "huge-bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00abc.",
        "huge-bytearray": b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00abc.",
        "huge-frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x00.",
        "huge-joblib-shape": stream.getvalue().replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85", 1),
        "shared-tuple-as-key": b"\x80\x04}K\x01" + shared + b"K\x01s.",
        "deep-tuple-as-key": b"\x80\x04}K\x01" + b"\x85" * 100_000 + b"K\x01s.",
        "deep-list": b"\x80\x04" + b"]" * 100_000 + b"a" * 200_000 + b".",
        "copies": b"\x80\x02]("
        + b"K\x01" * 1000
        + b"eq\x00"
        + (named("builtins", "set") + b"h\x00\x85R0") * 1000
        + b"N.",
        "range": whole(named("builtins", "set") + named("builtins", "range") + b"J\xff\xff\xff\x7f\x85R\x85R"),
        "bytearray": whole(named("builtins", "bytearray") + b"J\xff\xff\xff\x7f\x85R"),
        "stack-underflow": b"\x80\x04aaaa.",
        "bad-opcode": b"\x80\x04\xff.",
        "bad-protocol": b"\x80\x63N.",
        "no-memo": b"\x80\x04h\x07.",
        "unhashable": b"\x80\x04}]K\x01s.",
        "half-utf8": b"\x80\x04\x8c\x02\xc3(.",
        "buffers": b"\x80\x05\x97.",
        "trailing": plain + b"x",
        "two": plain + plain,
        "bad-zlib": b"\x78\x9c" + b"\x00" * 20,
        "bad-gzip": b"\x1f\x8b" + b"\x00" * 20,
        "bad-bz2": b"BZh9" + b"\x00" * 20,
        "bad-xz": b"\xfd7zXZ" + b"\x00" * 20,
        "lz4": b"\x04\x22\x4d\x18" + b"\x00" * 20,
    }


@pytest.mark.parametrize("name", _bombs())
def test_damaged_file_is_a_load_error(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.pkl", _bombs()[name])
    with pytest.raises(LoadError):
        load_pickle(path, default_allow())
    try:
        read_globals(path, default_allow())
    except BerthError as error:
        assert isinstance(error, LoadError)  # noqa: PT017


def test_packed_bomb_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(np.zeros(40_000_000), path, compress=("xz", 1))
    assert path.stat().st_size < 200_000
    with pytest.raises(LoadError, match="unpacks to more than"):
        load_joblib(path, default_allow())
    with pytest.raises(LoadError, match="unpacks to more than"):
        read_globals(path, default_allow())


@pytest.mark.parametrize("name", ["missing.pkl", "folder"])
def test_unreadable_file_is_a_load_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(LoadError, match=name):
        load_pickle(tmp_path / name, default_allow())


# Models that must load


def _equal(one: Any, other: Any) -> bool:
    return bool(joblib.hash(one) == joblib.hash(other))


def _check_round_trip(label: str, estimator: Any, path: Path) -> None:
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps(estimator, protocol))
        again = load_pickle(path, default_allow())
        assert type(again) is type(estimator), label
        assert pickle.dumps(again, 5)[:2] == b"\x80\x05", label
    joblib.dump(estimator, path)
    assert repr(load_joblib(path, default_allow())) == repr(joblib.load(path)), label
    assert [item for item in read_globals(path, default_allow()) if not item.allowed] == [], label


def test_usual_estimators_load(tmp_path: Path) -> None:
    labels = [_check_round_trip(label, model, tmp_path / "m") or label for label, model in fit_each(_QUICK)]
    assert len(labels) >= len(_QUICK)


@pytest.mark.slow
def test_every_estimator_loads(tmp_path: Path) -> None:
    for label, model in (*fit_each(), *fit_unusual()):
        _check_round_trip(label, model, tmp_path / "m")


def test_loaded_model_answers_the_same(tmp_path: Path) -> None:
    rows = np.random.RandomState(0).normal(size=(40, 3))
    for label, model in fit_each(
        frozenset({"RandomForestClassifier", "SVC", "HistGradientBoostingRegressor", "KMeans"})
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
        "masked": np.ma.MaskedArray([1, 2, 3], mask=[0, 1, 0]),
        "empty": [np.zeros((0, 3)), np.array([], dtype=object), np.float32(0).reshape(())],
        "dtypes": [np.dtype("f8"), np.dtype([("a", "i4", (2,))])],
    }
    path = tmp_path / "m"
    if writer == "joblib":
        joblib.dump(value, path, protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(value, protocol))
    assert repr(load_joblib(path, default_allow())) == repr(value)


def test_old_joblib_layout_loads(tmp_path: Path) -> None:
    """Before 1.2 no padding stood before the bytes; arrays of objects were read by a second unpickler."""
    numbers, words = np.arange(4.0), np.array(["a", None], dtype=object)
    data = b"\x80\x03]("
    for array, raw in ((numbers, numbers.tobytes()), (words, pickle.dumps(words, 2))):
        wrapper = joblib.numpy_pickle.NumpyArrayWrapper(np.ndarray, array.shape, "C", array.dtype)
        del wrapper.numpy_array_alignment_bytes
        data += pickle.dumps(wrapper, 3)[2:-1] + raw
    loaded: Any = load_joblib(write(tmp_path / "m", data + b"e."), default_allow())
    assert [array.tolist() for array in loaded] == [numbers.tolist(), words.tolist()]


def test_same_array_twice_is_one_array(tmp_path: Path) -> None:
    array = np.arange(3)
    loaded: Any = load_pickle(write(tmp_path / "m", pickle.dumps([array, array])), default_allow())
    assert loaded[0] is loaded[1]


# The user's own classes


def test_own_class_needs_to_be_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pkl", pickle.dumps(Scaler(2.0)))
    with pytest.raises(UnsafeArtifact, match="test_unpickle:Scaler"):
        load_pickle(path, default_allow())
    loaded: Any = load_pickle(path, default_allow() | set(parse_allow("test_unpickle:Scaler")))
    assert loaded.factor == 2.0
    assert [item.allowed for item in read_globals(path, default_allow())] == [False]


def test_own_dotted_class_needs_its_own_line(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pkl", pickle.dumps(Scaler.Inner()))
    with pytest.raises(UnsafeArtifact, match=r"Scaler\.Inner"):
        load_pickle(path, default_allow() | set(parse_allow("test_unpickle:Scaler")))
    assert isinstance(load_pickle(path, frozenset(parse_allow("test_unpickle:Scaler.Inner"))), Scaler.Inner)


@pytest.mark.parametrize("name", ["subprocess", "np", "subprocess.Popen", "call"])
def test_listed_name_must_live_where_it_is_listed(name: str, tmp_path: Path) -> None:
    """A module, or something imported from elsewhere, is not what the user meant to allow."""
    path = write(tmp_path / "m.pkl", whole(stacked("test_unpickle", name)))
    with pytest.raises((UnsafeArtifact, LoadError)):
        load_pickle(path, frozenset({("test_unpickle", name)}))


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        ("", ()),
        ("a.b:C", (("a.b", "C"),)),
        (" a:B , c.d:E.f ,", (("a", "B"), ("c.d", "E.f"))),
        ("a:B,a:B", (("a", "B"),)),
    ],
)
def test_parse_allow(value: str, pairs: tuple[tuple[str, str], ...]) -> None:
    assert parse_allow(value) == pairs


@pytest.mark.parametrize(
    "value",
    ["a", "a.B", "a:", ":B", "a:B:c", "a.*:B", "a:*", "a..b:C", "a:.B", "a b:C", "1a:B", "a:B;c:D", "os:system",
     "builtins:eval", "functools:partial", "__main__:Model", "numpy.testing:x", "scipy.stats._continuous_distns:norm_gen"],
)  # fmt: skip
def test_parse_allow_refuses(value: str) -> None:
    with pytest.raises(SettingsError, match="BERTH_PICKLE_ALLOW"):
        parse_allow(value)


# The list


def test_list_is_quick_and_needs_no_library() -> None:
    script = (
        "import sys; from berth.unpickle import default_allow; n = len(default_allow()); "
        "assert n > 500; assert not {'sklearn', 'scipy', 'joblib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_list_is_sorted_and_holds_no_way_out() -> None:
    assert ("sklearn.ensemble._forest", "RandomForestClassifier") in default_allow()
    roots = {module.split(".")[0] for module, _ in default_allow()}
    assert roots == {"sklearn", "numpy", "scipy", "builtins", "collections", "copyreg", "datetime", "_codecs"}
    hidden = {f"{module}:{name}" for module, name in default_allow()} & {
        f"{module}:{name}" for label, (module, name, _) in CALLS.items() if label not in _ONLY_CALLS
    }
    assert hidden == set()


# Allowed as values, and refused as calls.
_ONLY_CALLS = {
    "numpy-memmap",
    "numpy-ufunc-called",
    "sklearn-estimator-called",
    "sklearn-metric-called",
    "codecs-rot13",
}


def test_globals_of_a_model_are_listed_once(tmp_path: Path) -> None:
    _, model = next(fit_each(frozenset({"RandomForestClassifier"})))
    joblib.dump(model, tmp_path / "m")
    names = [f"{item.module}:{item.name}" for item in read_globals(tmp_path / "m", default_allow())]
    assert "sklearn.tree._tree:Tree" in names
    assert len(names) == len(set(names))


def test_globals_are_read_without_importing(tmp_path: Path) -> None:
    path = write(tmp_path / "m", whole(named("antigravity", "fly") + b"0" + stacked("this", "s") + b"0" + text("x")))
    found = read_globals(path, default_allow())
    assert [(item.module, item.name, item.allowed) for item in found] == [
        ("antigravity", "fly", False),
        ("this", "s", False),
    ]
    assert not {"antigravity", "this"} & set(sys.modules)
