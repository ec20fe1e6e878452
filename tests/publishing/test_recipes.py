"""The recipes in model_store/recipes: programs that train a model and add it to a store."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

FOLDER = Path(__file__).parents[2] / "model_store" / "recipes"
# What each adds, and what it tells of it.
RECIPES = {
    "iris": {"iris": {"metrics", "deterministic"}, "iris-forest": {"metrics", "deterministic"}},
    "iris_mlp": {"iris-mlp": {"accuracy", "deterministic"}},
    "rents": {"rents": {"r2", "rows", "deterministic"}},
}


def run_recipe(name: str, *arguments: str) -> str:
    """What the recipe prints, run as people do."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_recipe_is_known() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} - {"recipe"} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_each_tells_what_it_trains(name: str) -> None:
    told = run_recipe(name, "--help")
    assert all(model in told for model in RECIPES[name])
    assert "--store" in told
    assert f"[default: {'1' if name == 'iris' else '(the next number)'}]" in told


def test_a_version_is_added_once_with_what_is_known_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    recipe: Any = importlib.import_module("recipe")

    def train(folder: Path) -> Any:
        import joblib
        from sklearn.linear_model import LinearRegression

        joblib.dump(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), folder / "a.joblib")
        recipe.write_sample(folder / "a.csv", ["x"], [[0.0], [1.0]])
        return recipe.Trained(folder / "a.joblib", folder / "a.csv", {"slope": 2})

    def run(*arguments: str) -> str:
        command = recipe.make_command("/recipes/line.py", {"line": train})
        result = CliRunner().invoke(command, ["--store", str(tmp_path), *arguments])
        assert result.exit_code == ("/" in arguments)
        return result.output

    assert run() == f"line version 1 added to {tmp_path}; slope 2\n"
    assert run("--version", "1") == "line version 1 is already there\n"
    assert run() == f"line version 2 added to {tmp_path}; slope 2\n"
    assert run("--version", "/").startswith("Error: ")
    manifest = json.loads((tmp_path / "line" / "2" / "model.json").read_text("utf-8"))
    assert [column["name"] for column in manifest["metadata"].pop("profile")["columns"]] == ["x"]
    assert manifest["metadata"] == {"recipe": "line.py", "slope": 2, "deterministic": True}
    assert manifest["inputs"][0]["columns"] == ["x"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_each_adds_its_models(name: str, tmp_path: Path) -> None:
    if name == "iris_mlp":
        pytest.importorskip("torch", reason="torch is not installed")
    run_recipe(name, "--store", str(tmp_path))
    for model, facts in RECIPES[name].items():
        manifest = json.loads((tmp_path / model / "1" / "model.json").read_text("utf-8"))
        assert set(manifest["metadata"]) == facts | {"recipe", "profile"}
        assert manifest["example"]
