"""Trains `rents`, a regression over a table with words and gaps in it, and adds it to a store."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from berth.adding import AddRequest, add_version, next_version
from berth.errors import BerthError
from berth.loaders import LoadOptions

NAME = "rents"
ROWS = 2000
DISTRICTS = {"harbour": 5.0, "centre": 9.0, "hills": 7.0, "station": 3.0}
WORDS, NUMBERS = ["district", "heating"], ["area", "year"]


def make_table() -> tuple[Any, Any]:
    """Flats and their rents, made up with a fixed seed; one year in ten is not known."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "district": random.choice(list(DISTRICTS), ROWS),
            "heating": random.choice(["gas", "heat pump", "district heat"], ROWS),
            "area": random.uniform(18, 160, ROWS).round(1),
            "year": random.integers(1900, 2026, ROWS).astype(float),
        }
    )
    price = table["district"].map(DISTRICTS) + (table["year"] - 1900) / 40 + (table["heating"] == "heat pump")
    rents = (table["area"] * price + random.normal(0, 40, ROWS)).clip(lower=100)
    table.loc[random.random(ROWS) < 0.1, "year"] = np.nan
    return table, rents


def build_pipeline() -> Any:
    """Words one-hot, gaps filled with the median, then boosted trees."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    words = ("words", OneHotEncoder(handle_unknown="ignore"), WORDS)
    columns = ColumnTransformer([words, ("numbers", SimpleImputer(strategy="median"), NUMBERS)])
    return make_pipeline(columns, GradientBoostingRegressor(random_state=0))


def add_rents(store: Path, version: str) -> float:
    """Train, try on a fifth that was held back, and add; the share of the variance explained. Raises OperatorError."""
    import joblib
    from sklearn.model_selection import train_test_split

    table, rents = make_table()
    seen, unseen, paid, asked = train_test_split(table, rents, test_size=0.2, random_state=0)
    pipeline = build_pipeline().fit(seen, paid)
    score = float(pipeline.score(unseen, asked))
    with tempfile.TemporaryDirectory() as folder:
        artifact, rows = Path(folder, "model.joblib"), Path(folder, "sample.csv")
        joblib.dump(pipeline, artifact)
        seen.to_csv(rows, index=False)
        facts = {"recipe": Path(__file__).name, "r2": round(score, 4), "rows": len(seen)}
        request = AddRequest(NAME, version, sample=rows, metadata=facts)
        add_version(store, artifact, request, LoadOptions(accelerate="auto"))
    return score


@click.command()
@click.option("--store", type=click.Path(path_type=Path), default=Path("model_store"), show_default=True)
@click.option("--version", help="The version to add [default: the next number].")
def main(store: Path, version: str | None) -> None:
    """Train the regression and add it to STORE."""
    version = version or next_version(store, NAME)
    try:
        score = add_rents(store, version)
    except BerthError as error:
        raise click.ClickException(error.message) from error
    click.echo(f"{NAME} version {version} added to {store}; r2 {score:.3f}")


if __name__ == "__main__":
    main()
