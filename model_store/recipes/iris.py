"""Trains the sample models, `iris` and `iris-forest`, and adds them to a store; `make run` calls it the first time."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from berth.adding import AddRequest, add_version
from berth.errors import BerthError
from berth.loaders import LoadOptions
from berth.store import list_versions


class Trained(NamedTuple):
    """The fitted estimator, and the rows it was trained on with the names of their columns."""

    estimator: Any
    columns: list[str]
    rows: list[list[float]]


def _train(estimator: Any) -> Trained:
    from sklearn.datasets import load_iris

    iris = load_iris()
    return Trained(estimator.fit(iris.data, iris.target), list(iris.feature_names), iris.data.tolist())


def train_logistic() -> Trained:
    """Logistic regression: 0 is setosa, 1 versicolor, 2 virginica."""
    from sklearn.linear_model import LogisticRegression

    return _train(LogisticRegression(max_iter=1000))


def train_forest() -> Trained:
    """A forest of 100 trees on the same flowers."""
    from sklearn.ensemble import RandomForestClassifier

    return _train(RandomForestClassifier(n_estimators=100, random_state=0))


RECIPES: dict[str, Callable[[], Trained]] = {"iris": train_logistic, "iris-forest": train_forest}


def add_trained(store: Path, name: str, version: str, trained: Trained) -> None:
    """Save one trained estimator and its sample, and add them to the store. Raises OperatorError."""
    import joblib

    with tempfile.TemporaryDirectory() as folder:
        artifact, rows = Path(folder, "model.joblib"), Path(folder, "sample.csv")
        joblib.dump(trained.estimator, artifact)
        with rows.open("w", newline="") as file:
            csv.writer(file).writerows([trained.columns, *trained.rows])
        request = AddRequest(name, version, sample=rows, metadata={"recipe": Path(__file__).name})
        add_version(store, artifact, request, LoadOptions(accelerate="auto"))


@click.command()
@click.option("--store", type=click.Path(path_type=Path), default=Path("model_store"), show_default=True)
@click.option("--version", default="1", show_default=True, help="The version to add.")
def main(store: Path, version: str) -> None:
    """Train the iris models into STORE; those that are there already are left alone."""
    for name, train in RECIPES.items():
        if any(entry.version == version for entry in list_versions(store, name)):
            click.echo(f"{name} version {version} is already there")
            continue
        try:
            add_trained(store, name, version, train())
        except BerthError as error:
            raise click.ClickException(error.message) from error
        click.echo(f"{name} version {version} added to {store}")


if __name__ == "__main__":
    main()
