"""Ensembles answer exactly what their members' own predictions give when they are combined by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.errors import LoadError
from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.models.store import find_version
from berth.publishing.adding import AddRequest, add_version
from berth.publishing.ensembling import add_ensemble, make_recipe
from berth.serving.opening import open_version

OPTIONS = LoadOptions()
LABELS = ["no", "perhaps", "yes"]


def _estimators() -> dict[str, tuple[Any, bool]]:
    """By name an unfitted estimator, and whether it is a classifier."""
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    return {
        "forest": (RandomForestClassifier(n_estimators=10, random_state=0), True),
        "logistic": (LogisticRegression(max_iter=500), True),
        "bayes": (GaussianNB(), True),
        "tree": (DecisionTreeClassifier(max_depth=3, random_state=0), True),
        "vectors": (SVC(), True),
        "line": (LinearRegression(), False),
        "trees": (RandomForestRegressor(n_estimators=10, random_state=0), False),
        "boost": (GradientBoostingRegressor(n_estimators=10, random_state=0), False),
    }


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray[Any, Any]]:
    """A store with the estimators, fitted, and rows to predict."""
    store, folder = tmp_path_factory.mktemp("members"), tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3))
    values = rows @ [1.0, -2.0, 0.5] + rng.normal(size=200) / 5
    classes = np.array(LABELS)[np.digitize(values, [-1, 1])]
    for name, (estimator, classifies) in _estimators().items():
        joblib.dump(estimator.fit(rows, classes if classifies else values), folder / f"{name}.joblib")
        add_version(store, folder / f"{name}.joblib", AddRequest(name, "1"), OPTIONS)
    # The same classes in another order, as another library may have them.
    other = _estimators()["bayes"][0].fit(rows, classes)
    other.classes_ = other.classes_[::-1].copy()
    for part in ("theta_", "var_", "class_prior_", "class_count_"):
        setattr(other, part, getattr(other, part)[::-1].copy())
    joblib.dump(other, folder / "reversed.joblib")
    add_version(store, folder / "reversed.joblib", AddRequest("reversed", "1"), OPTIONS)
    return store, rng.normal(size=(500, 3))


def open_model(store: Path, name: str, options: LoadOptions = OPTIONS) -> Model:
    return open_version(find_version(store, name), options, "warn")


def ask(model: Model, rows: np.ndarray[Any, Any], *names: str) -> dict[str, Any]:
    return model.predict({model.inputs[0].name: rows}, names)


def make(store: Path, name: str, words: list[str], combine: str, weights: list[float] | None = None) -> Model:
    recipe = make_recipe(store, words, combine, weights or [])
    add_ensemble(store, recipe, AddRequest(name), OPTIONS)
    return open_model(store, name)


PAIRS = [
    (["forest", "logistic"], "mean", None),
    (["logistic", "reversed"], "mean", None),
    (["tree", "bayes"], "weighted", [2.0, 1.0]),
    (["forest", "bayes"], "max", None),
    (["vectors", "tree"], "vote", None),
    (["line", "trees"], "mean", None),
    (["boost", "line"], "weighted", [0.25, 0.75]),
    (["trees", "boost"], "max", None),
    (["logistic", "tree", "vectors", "bayes"], "vote", None),
]


def expected(parts: list[Any], combine: str, weights: list[float] | None) -> Any:
    """The combination of the members' numbers or probabilities."""
    if combine == "max":
        highest = np.maximum.reduce(parts)
        return highest / highest.sum(axis=1, keepdims=True) if highest.ndim == 2 else highest
    each = weights or [1.0] * len(parts)
    return sum(weight * part for weight, part in zip(each, parts, strict=True)) / sum(each)


@pytest.mark.parametrize(("words", "combine", "weights"), PAIRS, ids=lambda value: "-".join(map(str, value or [])))
def test_it_is_the_members_combined(
    members: tuple[Path, Any], words: list[str], combine: str, weights: list[float] | None, tmp_path: Path
) -> None:
    store, rows = members
    made = make(store, f"{combine}-{'-'.join(words)}", words, combine, weights)
    each = [open_model(store, word) for word in words]
    if combine == "vote":
        votes = [ask(model, rows, "prediction")["prediction"].tolist() for model in each]
        wanted = [max(row, key=lambda label: (row.count(label), -row.index(label))) for row in zip(*votes, strict=True)]
        assert ask(made, rows, "prediction")["prediction"].tolist() == wanted
        return
    if not made.outputs[-1].labels:
        parts = [ask(model, rows, "prediction")["prediction"] for model in each]
        assert np.array_equal(ask(made, rows, "prediction")["prediction"], expected(parts, combine, weights))
        return
    labels = [next(spec.labels for spec in model.outputs if spec.labels) for model in each]
    places = [[have.index(label) for label in labels[0]] for have in labels]
    said = [ask(model, rows, "probabilities")["probabilities"] for model in each]
    joined = expected([part[:, place] for part, place in zip(said, places, strict=True)], combine, weights)
    found = ask(made, rows, "probabilities", "prediction")
    assert np.array_equal(found["probabilities"], joined)
    assert found["prediction"].tolist() == [labels[0][at] for at in joined.argmax(axis=1)]


def test_a_vote_is_worth_the_same_in_any_order(members: tuple[Path, Any]) -> None:
    store, rows = members
    one = make(store, "odd-a", ["logistic", "tree", "bayes"], "vote")
    other = make(store, "odd-b", ["bayes", "logistic", "tree"], "vote")
    here, there = (ask(model, rows, "prediction")["prediction"] for model in (one, other))
    votes = [ask(open_model(store, word), rows, "prediction")["prediction"] for word in ("logistic", "tree", "bayes")]
    decided = np.array([len(set(row)) < 3 for row in zip(*votes, strict=True)])
    assert np.array_equal(here[decided], there[decided])


def test_members_that_do_not_go_together_are_named(members: tuple[Path, Any]) -> None:
    store, _ = members
    for words, combine, said in (
        (["forest", "line"], "mean", "only one has probabilities"),
        (["vectors", "forest"], "mean", "only one has probabilities"),
        (["vectors", "vectors"], "vote", "each once"),
    ):
        with pytest.raises(LoadError, match=said):
            make(store, "wrong", words, combine)
    with pytest.raises(LoadError, match="weights go with --combine weighted"):
        make_recipe(store, ["forest", "tree"], "mean", [1.0, 2.0])
    with pytest.raises(LoadError, match="weights must be one number from 0 up for each of 2 members"):
        make_recipe(store, ["forest", "tree"], "weighted", [1.0])


def test_a_member_that_changed_or_is_missing_is_refused(members: tuple[Path, Any], tmp_path: Path) -> None:
    store = shutil.copytree(members[0], tmp_path / "store")
    make(store, "best", ["forest", "tree"], "mean")
    folder = store / "tree" / "1"
    shutil.rmtree(folder)
    with pytest.raises(LoadError, match="its member tree@1 is not in the store"):
        open_model(store, "best")
    with pytest.raises(LoadError, match="its member tree@1 is not in the store"):
        open_model(store, "best", LoadOptions(accelerate="off"))
    add_version(store, members[0] / "bayes" / "1" / "bayes.joblib", AddRequest("tree", "1"), OPTIONS)
    with pytest.raises(LoadError, match=r"its member tree@1: it has sha256 .*, but the ensemble was made with"):
        open_model(store, "best")
    (store / "forest" / "1" / "forest.joblib").write_bytes(b"no")
    with pytest.raises(LoadError, match=r"its member forest@1: forest.joblib has sha256"):
        open_model(store, "best")


def test_the_command_makes_a_version_like_any_other(members: tuple[Path, Any], tmp_path: Path) -> None:
    store = shutil.copytree(members[0], tmp_path / "store")
    command = ["add", "--ensemble", "forest@1,tree@1", "--combine", "weighted", "--weights", "2,1", "--name", "best"]
    done = CliRunner().invoke(berth, [*command, "--store", str(store)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "added best@1 (ensemble" in done.output
    recipe = json.loads((store / "best" / "1" / "ensemble.json").read_text("utf-8"))
    assert [member["model"] for member in recipe["members"]] == ["forest@1", "tree@1"]
    assert recipe["weights"] == [2.0, 1.0]
    for word in ("verify", "inspect"):
        checked = CliRunner().invoke(berth, [word, "best@1", "--store", str(store)], catch_exceptions=False)
        assert checked.exit_code == 0, checked.output
    both = CliRunner().invoke(berth, [*command, str(store), "--store", str(store)])
    assert both.exit_code == 2
    assert "give a FILE, or --ensemble" in both.output


def test_members_are_accelerated_where_they_can_be(members: tuple[Path, Any]) -> None:
    store, rows = members
    for name in ("logistic", "tree"):
        file = store / name / "1" / f"{name}.joblib"
        add_version(store, file, AddRequest(f"quick-{name}", "1"), LoadOptions(accelerate="auto"))
    native = make(store, "quick", ["quick-logistic", "quick-tree"], "mean")
    quick = open_model(store, "quick", LoadOptions(accelerate="auto"))
    assert (native.accelerated, quick.accelerated) == (False, True)
    here, there = (ask(model, rows, "probabilities")["probabilities"] for model in (native, quick))
    assert np.allclose(here, there, rtol=0, atol=1e-9)
