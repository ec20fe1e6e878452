"""Models as people's notebooks make them, each with the table that its case's request stands for."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import scipy.stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

_RNG = np.random.default_rng(0)
PEOPLE: Any = pd.DataFrame(
    {
        "age": _RNG.integers(18, 80, 80).astype(float),
        "fare": _RNG.normal(30, 10, 80).round(2),
        "sex": _RNG.choice(["male", "female"], 80),
        "city": _RNG.choice(["Rome", "Oslo"], 80),
    }
)
Y = ((PEOPLE["age"] > 45) ^ (PEOPLE["sex"] == "male")).astype(int).to_numpy()
NUMBERS = PEOPLE[["age", "fare"]]
ROW = PEOPLE.iloc[:1].assign(age=30.0, fare=9.5, sex="male", city="Rome")
# What is saved, what answers, and the row that it is given.
Made = tuple[Any, Any, Any]


class AddRatio(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A user's own transformer, which takes columns by name."""

    def fit(self, table: pd.DataFrame, target: object = None) -> AddRatio:
        """Learns nothing."""
        return self

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Three numbers of three columns."""
        return pd.DataFrame({"a": table["age"], "r": table["fare"] / table["age"], "s": table["sex"] == "male"})


class Never(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer that no row satisfies."""

    def fit(self, table: object, target: object = None) -> Never:
        """Learns nothing."""
        return self

    def transform(self, table: Any) -> Any:
        """Always fails but while it is fitted."""
        if len(table) == len(PEOPLE):
            return table
        raise RuntimeError("the service that this asks is gone")


def age_of(table: Any) -> Any:
    """A user's own function that takes dates, and nothing else."""
    days = (pd.Timestamp("2024-12-31") - pd.to_datetime(table["when"], format="%Y-%m-%d")).dt.days
    return pd.DataFrame({"days": days, "fare": table["fare"]})


def text_to_number(table: pd.DataFrame) -> pd.DataFrame:
    """A user's own function over a frame."""
    return table.assign(sex=(table["sex"] == "male").astype(float))


def columns(numbers: Any, texts: Any) -> Any:
    """Scaled numbers and one-hot texts."""
    return ColumnTransformer([("n", StandardScaler(), numbers), ("t", OneHotEncoder(), texts)])


def _alone(model: Any, row: Any) -> Made:
    return model, model, row


def _frame(model: Any, names: list[str]) -> Made:
    return _alone(model.fit(PEOPLE[names], Y), ROW[names])


def _pandas_columns() -> Made:
    chosen = PEOPLE.select_dtypes("number").columns
    return _frame(make_pipeline(columns(chosen, PEOPLE.columns[2:]), LogisticRegression()), list(PEOPLE))


def _dummies() -> Made:
    table = pd.get_dummies(PEOPLE[["age", "sex"]])
    row = pd.DataFrame({"age": [30.0], "sex_female": [False], "sex_male": [True]})
    return _alone(RandomForestClassifier(5, random_state=0).fit(table, Y), row)


def _dict_vectorizer() -> Made:
    records = PEOPLE.to_dict("records")
    return _alone(make_pipeline(DictVectorizer(), LogisticRegression(max_iter=1000)).fit(records, Y), None)


def _random_search() -> Made:
    space = {"max_depth": scipy.stats.randint(2, 6), "min_samples_leaf": scipy.stats.randint(1, 5)}
    forest = RandomForestClassifier(5, random_state=0)
    return _frame(RandomizedSearchCV(forest, space, n_iter=2, cv=2, random_state=0), ["age", "fare"])


def _odd_names() -> Made:
    names = {"age": "Annual Income (k$)", "fare": "petal.length", "sex": "naïve 名"}
    table = PEOPLE[list(names)].rename(columns=names)
    row = pd.DataFrame({"Annual Income (k$)": [30.0], "petal.length": [1.5], "naïve 名": ["male"]})
    pipeline = make_pipeline(columns(["petal.length", "Annual Income (k$)"], ["naïve 名"]), LogisticRegression())
    return _alone(pipeline.fit(table, Y), row)


def _parts() -> Made:
    scaler = StandardScaler().fit(NUMBERS.to_numpy())
    model = LogisticRegression().fit(scaler.transform(NUMBERS.to_numpy()), Y)
    return {"model": model, "scaler": scaler, "score": 0.9}, Pipeline([("s", scaler), ("m", model)]), [[30, 9.5]]


def _matrix(model: Any) -> Made:
    return _alone(model.fit(NUMBERS.to_numpy(), Y), [[30, 9.5]])


def _dates() -> Made:
    table = NUMBERS.assign(when=pd.Series(["2024-01-31", "2023-06-01"] * 40))[["when", "fare"]]
    model = make_pipeline(FunctionTransformer(age_of), StandardScaler(), LogisticRegression())
    return _alone(model.fit(table, Y), table.iloc[:1])


def _postal_codes() -> Made:
    """Texts that a table of them shows as numbers and truths."""
    table = pd.DataFrame({"code": ["02139", "10001"] * 40, "member": ["True", "True", "False", "False"] * 20})
    table = table.assign(age=PEOPLE["age"])
    model = make_pipeline(columns(["age"], ["code", "member"]), LogisticRegression()).fit(table, Y)
    return _alone(model, pd.DataFrame({"code": ["02139"], "member": ["True"], "age": [30.0]}))


def _truths_with_gaps() -> Made:
    member = pd.array([True, None, False, True] * 20, dtype="boolean")
    table = PEOPLE[["age"]].assign(member=member)
    row = pd.DataFrame({"age": [30.0], "member": pd.array([None], dtype="boolean")})
    return _alone(HistGradientBoostingClassifier(max_iter=5).fit(table, Y), row)


def _of_main() -> Made:
    """As a notebook saves it: the function belongs to __main__."""
    main = sys.modules["__main__"]
    local = types.FunctionType(text_to_number.__code__, globals(), "clean")
    local.__module__, local.__qualname__ = "__main__", "clean"
    vars(main)["clean"] = local
    return _frame(make_pipeline(FunctionTransformer(local), LogisticRegression()), ["age", "fare", "sex"])


MODELS: dict[str, Callable[[], Made]] = {
    "pandas_columns": _pandas_columns,
    "unused_column": lambda: _alone(
        make_pipeline(columns(["age", "fare"], ["sex"]), LogisticRegression()).fit(PEOPLE, Y), ROW
    ),
    "dummies": _dummies,
    "dict_vectorizer": _dict_vectorizer,
    "unfitted": lambda: _alone(LogisticRegression(), None),
    "never": lambda: _alone(make_pipeline(StandardScaler(), Never(), LogisticRegression()).fit(NUMBERS, Y), None),
    "own_class": lambda: _frame(make_pipeline(AddRatio(), LogisticRegression()), ["age", "fare", "sex"]),
    "own_function": lambda: _frame(
        make_pipeline(FunctionTransformer(text_to_number), StandardScaler(), LogisticRegression()),
        ["age", "fare", "sex"],
    ),
    "random_search": _random_search,
    "memory": lambda: _matrix(make_pipeline(StandardScaler(), LogisticRegression(), memory=joblib.Memory(None))),
    "odd_names": _odd_names,
    "postal_codes": _postal_codes,
    "truths_with_gaps": _truths_with_gaps,
    "parts": _parts,
    "dates": _dates,
    "strings": lambda: _alone(
        make_pipeline(OneHotEncoder(), LogisticRegression()).fit(PEOPLE[["sex", "city"]], Y),
        pd.DataFrame({"sex": ["male"], "city": ["Oslo"]}),
    ),
    "svc": lambda: _matrix(LinearSVC()),
    "of_main": _of_main,
    "matrix": lambda: _matrix(LogisticRegression()),
}
