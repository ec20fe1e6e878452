"""Forged numbers are refused before compiled code sees them; honest ones never are."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.estimator import read_estimator
from berth.loaders.formats import LoadOptions
from berth.loaders.unpickle.loading import default_allow, load_pickle
from berth.loaders.unpickle.native_states import check_native_state, check_native_states
from estimator_files import DUMPS
from estimator_table import ESTIMATORS
from malicious_native import FORGED

# Where more than one class of the model could be named.
_BY_THE_OTHER = {"csr-shape": "KNeighborsClassifier"}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_state_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(FORGED[name]()))
    # Some are refused while they are read, before all of the numbers are looked at.
    said = r"^model\.pkl(: the file is damaged or hostile| is not loaded: it (holds a \w+ whose|uses the attribute)).+"
    with pytest.raises((UnsafeArtifact, LoadError), match=said) as refusal:
        load_pickle(path, default_allow())
    assert "\n" not in refusal.value.message
    assert len(refusal.value.message) < 400
    assert _BY_THE_OTHER.get(name, "") in refusal.value.message


@pytest.mark.parametrize("name", ["tree-child", "kd-tree-order", "svm-counts", "histogram-cycle"])
@pytest.mark.parametrize("dump", ["joblib", "joblib-packed", "skops"])
def test_a_forged_state_is_refused_in_every_kind_of_file(name: str, dump: str, tmp_path: Path) -> None:
    file, write = DUMPS[dump]
    write(FORGED[name](), tmp_path / file)
    with pytest.raises(UnsafeArtifact, match="is not loaded: it holds a"):
        read_estimator(tmp_path / file, dump.split("-")[0], LoadOptions())


def test_the_refusal_names_class_array_and_value() -> None:
    with pytest.raises(UnsafeArtifact, match=r"a Tree whose nodes\[0\].left_child is 1099511627776; it has 51 nodes"):
        check_native_states(FORGED["tree-child"]())
    with pytest.raises(UnsafeArtifact, match=r"a csr_matrix whose indptr\[1\] is 1073741824, outside 0 to \d+"):
        check_native_states(FORGED["csr-indptr"]())


def test_one_instance_is_checked_alone() -> None:
    check_native_state(ESTIMATORS["tree"]()[0].tree_)
    with pytest.raises(UnsafeArtifact, match="right_child"):
        check_native_state(FORGED["tree-child-negative"]().tree_)


def test_what_is_filled_after_its_state_was_set_is_checked_too(tmp_path: Path) -> None:
    """The list is written around the forest: when the forest gets its state, the list is still empty."""
    forest = ESTIMATORS["forest"]()[0]
    forest = pickle.loads(pickle.dumps(forest))
    trees = forest.estimators_
    trees.append(forest)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(trees))
    with pytest.raises(UnsafeArtifact, match=r"estimators_\[20\] is a RandomForestClassifier"):
        load_pickle(path, default_allow())


@pytest.mark.parametrize(
    "hide",
    [
        lambda bad: {1: [(bad,)]},
        lambda bad: np.array([[bad, None]], dtype=object),
        lambda bad: np.array([(1, bad)], dtype=[("a", int), ("b", object)]),
        lambda bad: np.ma.MaskedArray(np.array([bad], dtype=object), mask=[False]),
        lambda bad: {"key": frozenset([bad])},
    ],
)
def test_no_container_hides_one(hide: Any) -> None:
    with pytest.raises(UnsafeArtifact, match="left_child"):
        check_native_states(hide(FORGED["tree-child"]()))


class OwnTree(DecisionTreeClassifier):  # type: ignore[misc]  # scikit-learn has no types
    """A user's class, which a file may name after BERTH_PICKLE_ALLOW."""


def test_a_users_class_is_checked_as_what_it_is_made_of() -> None:
    model = OwnTree(random_state=0).fit([[0.0], [1.0]], [0, 1])
    model.score = 0.9
    check_native_states(model)
    model._validate_X_predict = np.abs
    with pytest.raises(UnsafeArtifact, match="a OwnTree whose state has its own '_validate_X_predict'"):
        check_native_states(model)
    del model._validate_X_predict
    model.n_features_in_ = 0
    with pytest.raises(UnsafeArtifact, match="n_features_in_ is 0"):
        check_native_states(model)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_honest_estimators_pass(name: str) -> None:
    check_native_states(ESTIMATORS[name]()[0])


def test_the_check_costs_little(tmp_path: Path) -> None:
    """A forest of 100 trees: about 4 % of its load on an idle machine; the bound allows for a busy one."""
    rng = np.random.RandomState(0)
    forest = RandomForestClassifier(100, random_state=0).fit(rng.normal(size=(150, 4)), np.arange(150) % 3)
    path = tmp_path / "model.joblib"
    joblib.dump(forest, path)

    def quickest(call: Any) -> float:
        def once() -> float:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start

        return min(once() for _ in range(12))

    checking = quickest(lambda: check_native_states(forest))
    whole = quickest(lambda: load_pickle(path, default_allow()))  # the check is part of it
    assert checking < 0.1 * (whole - checking)
