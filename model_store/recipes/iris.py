"""Trains the sample models, `iris` and `iris-forest`, and adds them to a store; `make run` calls it the first time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipe import Trained, make_command, write_sample


def _train(estimator: Any, folder: Path) -> Trained:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.model_selection import cross_val_score

    iris = load_iris()
    artifact, sample = folder / "model.joblib", folder / "sample.csv"
    joblib.dump(estimator.fit(iris.data, iris.target), artifact)
    write_sample(sample, iris.feature_names, iris.data.tolist())
    accuracy = cross_val_score(estimator, iris.data, iris.target, cv=5).mean()
    # What `berth quality` and the alert BerthQuality compare labels with.
    return Trained(artifact, sample, {"metrics": {"accuracy": round(float(accuracy), 3)}})


def train_logistic(folder: Path) -> Trained:
    """Logistic regression: 0 is setosa, 1 versicolor, 2 virginica."""
    from sklearn.linear_model import LogisticRegression

    return _train(LogisticRegression(max_iter=1000), folder)


def train_forest(folder: Path) -> Trained:
    """A forest of 100 trees on the same flowers."""
    from sklearn.ensemble import RandomForestClassifier

    return _train(RandomForestClassifier(n_estimators=100, random_state=0), folder)


main = make_command(__file__, {"iris": train_logistic, "iris-forest": train_forest}, version="1")

if __name__ == "__main__":
    main()
