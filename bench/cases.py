"""The cases: the models, the rows sent to them, and the correct predictions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODELS = HERE / ".models"
STORE = MODELS / "store"


@dataclass(frozen=True)
class Case:
    """One row of the table: a model and how many rows a request carries."""

    name: str
    title: str
    model: str
    rows: int
    binary: bool = False  # V2 with binary tensors instead of the server's own JSON


CASES = (
    Case("lr-1", "logistic regression, 1 row", "lr", 1),
    Case("lr-64", "logistic regression, 64 rows", "lr", 64),
    Case("forest-1", "forest of 100 trees, 1 row", "forest", 1),
    Case("forest-64", "forest of 100 trees, 64 rows", "forest", 64),
    Case("ridge-1000", "ridge regression, 1000 rows of 30", "ridge", 1000),
    Case("ridge-1000-v2", "ridge regression, 1000 rows of 30, V2 binary", "ridge", 1000, binary=True),
    Case("mlp-1", "torch MLP 30-64-64-3, 1 row", "mlp", 1),
)


def model_file(model: str) -> Path:
    """The artifact that every server loads."""
    return MODELS / f"{model}.{'pt' if model == 'mlp' else 'joblib'}"


def _train_estimators() -> dict[str, tuple[Any, Any]]:
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, Ridge

    iris = load_iris()
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(1000, 30))
    target = wide @ rng.normal(size=30) + rng.normal(scale=0.1, size=1000)
    return {
        "lr": (LogisticRegression(max_iter=1000).fit(iris.data, iris.target), iris.data),
        "forest": (RandomForestClassifier(100, random_state=0).fit(iris.data, iris.target), iris.data),
        "ridge": (Ridge().fit(wide, target), wide),
    }


def _write_known(model: str, rows: Any, answers: Any) -> None:
    document = {"rows": rows.tolist(), "answers": answers.tolist()}
    (MODELS / f"{model}.json").write_text(json.dumps(document), "utf-8")


def _train_net() -> None:
    import torch

    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3)
    ).eval()
    rows = torch.randn(64, 30)
    with torch.inference_mode():
        answers = layers(rows)
    torch.jit.freeze(torch.jit.script(layers)).save(str(model_file("mlp")))
    _write_known("mlp", rows.numpy(), answers.numpy())


def train_models() -> dict[str, str]:
    """Train what is not there yet; why a model is missing, by its name."""
    import joblib

    MODELS.mkdir(exist_ok=True)
    if not all((MODELS / f"{name}.json").exists() for name in ("lr", "forest", "ridge")):
        for name, (estimator, rows) in _train_estimators().items():
            joblib.dump(estimator, model_file(name))
            _write_known(name, rows, estimator.predict(rows))
    if not (MODELS / "mlp.json").exists():
        try:
            _train_net()
        except ImportError as error:
            return {"mlp": f"torch is not installed: {error}"}
    return {}


def fill_store(models: list[str]) -> None:
    """Berth's store, made anew as a user makes it: `berth add`. Raises CalledProcessError."""
    shutil.rmtree(STORE, ignore_errors=True)
    for model in models:
        command = [sys.executable, "-m", "berth", "add", str(model_file(model)), "--name", model, "--store", str(STORE)]
        if model == "mlp":
            command += ["--input", "features:FP32:-1,30"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def rows_of(case: Case) -> list[list[float]]:
    """The rows of one request: the first that the model was trained on."""
    rows: list[list[float]] = json.loads((MODELS / f"{case.model}.json").read_text("utf-8"))["rows"][: case.rows]
    return rows


def answers_of(case: Case) -> list[Any]:
    """What the model itself predicts for them."""
    answers: list[Any] = json.loads((MODELS / f"{case.model}.json").read_text("utf-8"))["answers"][: case.rows]
    return answers
