"""Small estimators fitted on frames of strings and numbers, and on text; the table of all is in estimator_table."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from sklearn import compose, ensemble, impute, linear_model, model_selection, naive_bayes, pipeline, preprocessing, tree
from sklearn.feature_extraction import text

# The estimator, and rows to ask it.
Fitted: TypeAlias = tuple[Any, Any]

_WORDS = ("boat rope sail wind", "rope knot boat", "bread flour oven", "oven bread butter", "wind wave", "flour egg")
_ROWS = 40


@cache
def _people() -> tuple[Any, Any]:
    """A frame as it comes from a CSV file: strings, integers, floats and truths, some of them missing."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "town": random.choice(["Bergen", "Oslo", "Voss"], 120),
            "age": random.integers(18, 80, 120),
            "income": random.normal(40.0, 9.0, 120).round(2),
            "member": random.random(120) < 0.5,
            "plan": random.choice(["basic", "plus"], 120),
        }
    )
    target = np.where(frame["income"] + frame["age"] / 4 + 5 * frame["member"] > 54, "leaves", "stays")
    frame.loc[::9, "town"] = np.nan
    frame.loc[::7, "income"] = np.nan
    return frame, target


def _reader(estimator: Any) -> Fitted:
    return estimator.fit(list(_WORDS), ["sea", "sea", "food", "food", "sea", "food"]), list(_WORDS)


def _columns() -> Any:
    """Strings imputed and encoded, numbers imputed and scaled, the rest as it is."""
    words = pipeline.make_pipeline(
        impute.SimpleImputer(strategy="most_frequent"), preprocessing.OneHotEncoder(handle_unknown="ignore")
    )
    numbers = pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    return compose.ColumnTransformer(
        [("words", words, ["town", "plan"]), ("numbers", numbers, ["age", "income"])], remainder="passthrough"
    )


def _ask_people() -> Any:
    """Rows with an unknown town and a missing one."""
    rows = _people()[0].head(_ROWS).copy()
    rows.loc[1, "town"] = "Narvik"
    return rows


def _column_pipeline() -> Fitted:
    frame, target = _people()
    return pipeline.make_pipeline(_columns(), linear_model.LogisticRegression()).fit(frame, target), _ask_people()


def _column_selectors() -> Fitted:
    frame, target = _people()
    columns = compose.make_column_transformer(
        (
            preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            compose.make_column_selector(dtype_exclude=["number", "bool"]),
        ),
        (impute.SimpleImputer(), compose.make_column_selector(dtype_include="number")),
    )
    return pipeline.make_pipeline(columns, tree.DecisionTreeClassifier(max_depth=4)).fit(frame, target), _ask_people()


def _column_search() -> Fitted:
    frame, target = _people()
    model = pipeline.Pipeline([("columns", _columns()), ("forest", ensemble.RandomForestClassifier(5, n_jobs=-1))])
    search = model_selection.GridSearchCV(model, {"forest__max_depth": [2, 4]}, cv=2)
    return search.fit(frame, target), _ask_people()


def _encoded_frame() -> Fitted:
    """An encoder on the whole frame, without a ColumnTransformer."""
    frame, target = _people()
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore")
    rows = _ask_people()[["town", "plan"]]
    return pipeline.make_pipeline(encoder, linear_model.LogisticRegression()).fit(frame[["town", "plan"]], target), rows


def _none_is_a_category() -> Fitted:
    frame = pd.DataFrame({"colour": pd.Series(["red", None, "blue", None, "red", "blue"] * 5, dtype=object)})
    model = pipeline.make_pipeline(
        preprocessing.OneHotEncoder(handle_unknown="ignore"), linear_model.LogisticRegression()
    )
    return model.fit(frame, [0, 1, 0, 1, 0, 0] * 5), frame.head(6)


def _integer_categories() -> Fitted:
    frame = pd.DataFrame({"floor": [1, 2, 3, 4] * 8, "lift": [True, False] * 16, "area": np.linspace(20, 90, 32)})
    columns = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(), ["floor", "lift"]), remainder="passthrough"
    )
    return pipeline.make_pipeline(columns, linear_model.Ridge()).fit(frame, frame["area"] * 3 + frame["floor"]), frame


def _object_matrix() -> Fitted:
    """Strings in a matrix without names."""
    features = _people()[0][["town", "plan"]].fillna("none").to_numpy(dtype=object)
    model = pipeline.make_pipeline(preprocessing.OrdinalEncoder(), tree.DecisionTreeClassifier(max_depth=3))
    return model.fit(features, _people()[1]), features[:_ROWS]


def _text_column() -> Fitted:
    frame = pd.DataFrame({"title": list(_WORDS) * 3, "pages": range(18)})
    columns = compose.make_column_transformer(
        (text.TfidfVectorizer(), "title"), (preprocessing.StandardScaler(), ["pages"])
    )
    return pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(frame, [0, 0, 1, 1, 0, 1] * 3), frame


def _text_union() -> Fitted:
    union = pipeline.make_union(text.CountVectorizer(), text.HashingVectorizer(n_features=32))
    return _reader(pipeline.make_pipeline(union, linear_model.LogisticRegression()))


def _boost_categories() -> Fitted:
    frame, target = _people()
    frame = frame.astype({"town": "category", "plan": "category"})
    boost = ensemble.HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")
    return boost.fit(frame, target), frame.head(_ROWS)


FRAMES: dict[str, Callable[[], Fitted]] = {
    "boosting_categories": _boost_categories,
    "columns": _column_pipeline,
    "column_selectors": _column_selectors,
    "column_search": _column_search,
    "encoded_frame": _encoded_frame,
    "none_is_a_category": _none_is_a_category,
    "integer_categories": _integer_categories,
    "object_matrix": _object_matrix,
    "text_column": _text_column,
    "text": lambda: _reader(pipeline.make_pipeline(text.TfidfVectorizer(), linear_model.LogisticRegression())),
    "text_counts": lambda: _reader(pipeline.make_pipeline(text.CountVectorizer(), naive_bayes.MultinomialNB())),
    "text_union": _text_union,
}
