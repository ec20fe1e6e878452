"""The list of allowed names: the generated one, and the user's own classes beside it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pytest

from berth.errors import LoadError, SettingsError, UnsafeArtifact
from berth.loaders.unpickle.loading import default_allow, load_pickle, parse_allow, read_globals
from estimators import fit_each
from malicious import MALICIOUS
from malicious_calls import CALLS
from pickle_assembler import stacked, whole


class Scaler:
    """A user's own class."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    class Inner:
        """Reached by a dotted name."""


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# The user's own classes


def test_own_class_needs_to_be_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pkl", pickle.dumps(Scaler(2.0)))
    with pytest.raises(UnsafeArtifact, match="test_unpickle_allow:Scaler"):
        load_pickle(path, default_allow())
    loaded: Any = load_pickle(path, default_allow() | set(parse_allow("test_unpickle_allow:Scaler")))
    assert loaded.factor == 2.0
    assert [item.allowed for item in read_globals(path, default_allow())] == [False]


def test_own_dotted_class_needs_its_own_line(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pkl", pickle.dumps(Scaler.Inner()))
    with pytest.raises(UnsafeArtifact, match=r"Scaler\.Inner"):
        load_pickle(path, default_allow() | set(parse_allow("test_unpickle_allow:Scaler")))
    assert isinstance(load_pickle(path, frozenset(parse_allow("test_unpickle_allow:Scaler.Inner"))), Scaler.Inner)


@pytest.mark.parametrize("name", ["subprocess", "np", "subprocess.Popen", "call"])
def test_listed_name_must_live_where_it_is_listed(name: str, tmp_path: Path) -> None:
    """A module, or something imported from elsewhere, is not what the user meant to allow."""
    path = write(tmp_path / "m.pkl", whole(stacked("test_unpickle_allow", name)))
    with pytest.raises((UnsafeArtifact, LoadError)):
        load_pickle(path, frozenset({("test_unpickle_allow", name)}))


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
     "builtins:eval", "functools:partial", "__main__:Model", "numpy.testing:x", "scipy.stats._x:norm_gen"],
)  # fmt: skip
def test_parse_allow_refuses(value: str) -> None:
    with pytest.raises(SettingsError, match="BERTH_PICKLE_ALLOW"):
        parse_allow(value)


def test_refusal_says_all_names_and_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pkl", pickle.dumps([Scaler(2.0), Scaler.Inner()]))
    with pytest.raises(UnsafeArtifact) as refusal:
        load_pickle(path, default_allow())
    assert "set BERTH_PICKLE_ALLOW=test_unpickle_allow:Scaler,test_unpickle_allow:Scaler.Inner" in refusal.value.message
    MALICIOUS["call-os-system"](path)
    with pytest.raises(UnsafeArtifact) as refusal:
        load_pickle(path, default_allow())
    assert "BERTH_PICKLE_ALLOW" not in refusal.value.message


# The list


def test_list_is_quick_and_needs_no_library() -> None:
    script = (
        "import sys; from berth.loaders.unpickle.loading import default_allow; n = len(default_allow()); "
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
