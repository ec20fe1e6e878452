"""What prepares columns: ColumnTransformer, encoders, imputers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from berth.loaders.legacy.made_with import Series
from berth.loaders.legacy.standins import Former


def _plain_columns(columns: Any) -> Any:
    """The columns of a remainder were a list of a class of its own in 1.5 and 1.6."""
    if isinstance(columns, Former):
        return list((columns.state or {}).get("data", []))
    return columns


def _frame_names(state: dict[str, Any]) -> Any:
    """The names of the columns of the frame, where the fit was on one whose names are all strings."""
    for name in ("_df_columns", "_feature_names_in"):
        kept = state.pop(name, None)
        if isinstance(kept, Former):
            kept = kept.args[1].get("data") if len(kept.args) == 2 and type(kept.args[1]) is dict else None
        if kept is not None and all(isinstance(one, str) for one in kept):
            return np.array(list(kept), object)
    return None


def _indices(columns: Any, names: list[str], width: int) -> list[int]:
    """Where the columns of one transformer are in the table."""
    if isinstance(columns, slice):
        if isinstance(columns.start, str) or isinstance(columns.stop, str):
            first = names.index(columns.start) if columns.start is not None else 0
            last = names.index(columns.stop) + 1 if columns.stop is not None else width
            return list(range(first, last))
        return list(range(width))[columns]
    some = [columns] if isinstance(columns, str | int | np.integer) else list(np.asarray(columns).tolist())
    if some and all(isinstance(one, bool) for one in some):
        return [at for at, one in enumerate(some) if one]
    return [names.index(one) if isinstance(one, str) else range(width)[one] for one in some]


def _passthrough(width: int) -> Any:
    """What stands for `passthrough` once it is fitted."""
    from sklearn.preprocessing import FunctionTransformer

    made = FunctionTransformer(accept_sparse=True, check_inverse=False, feature_names_out="one-to-one")
    made.n_features_in_ = width
    return made


def _upgrade_columns(target: Any, state: dict[str, Any], series: Series) -> None:
    if "transformers_" not in state:
        return
    names = _frame_names(state)
    if names is not None:
        state.setdefault("feature_names_in_", names)
    known = list(state.get("feature_names_in_", ()))
    if (width := state.pop("_n_features", None)) is not None:
        state.setdefault("n_features_in_", int(width))
    width = int(state.get("n_features_in_", len(known)))
    ready = state.pop("_name_to_fitted_passthrough", {})
    places, fitted = {}, []
    for name, part, columns in state["transformers_"]:
        columns = _plain_columns(columns)
        places[name] = _indices(columns, known, width)
        if isinstance(part, str) and part == "passthrough":
            part = ready.get(name) or _passthrough(len(places[name]))
        fitted.append((name, part, columns))
    state["transformers_"] = fitted
    state.setdefault("_transformer_to_input_indices", places)
    state["_transformer_to_input_indices"] = {
        name: _plain_columns(at) for name, at in state["_transformer_to_input_indices"].items()
    }
    remainder = state.get("_remainder")
    if remainder is not None:
        state["_remainder"] = (*remainder[:2], _plain_columns(remainder[2]))


def _upgrade_one_hot(target: Any, state: dict[str, Any], series: Series) -> None:
    if "sparse" in state:
        sparse = state.pop("sparse")
        state.setdefault("sparse_output", sparse)
    if "categories_" not in state:
        return
    state.setdefault("_infrequent_enabled", False)
    dropped = state.get("drop_idx_")
    if dropped is not None:
        dropped = np.asarray(dropped, object)
    state["drop_idx_"] = dropped
    state.setdefault("_drop_idx_after_grouping", dropped)
    sizes = [len(one) for one in state["categories_"]]
    if dropped is not None:
        sizes = [size - (at is not None) for size, at in zip(sizes, dropped.tolist(), strict=True)]
    state.setdefault("_n_features_outs", sizes)


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _upgrade_ordinal(target: Any, state: dict[str, Any], series: Series) -> None:
    if "categories_" not in state:
        return
    state.setdefault("_infrequent_enabled", False)
    missing = {
        at: len(values) - 1
        for at, values in enumerate(state["categories_"])
        if len(values) and _is_missing(values.tolist()[-1])
    }
    state.setdefault("_missing_indices", missing)


def _upgrade_imputer(target: Any, state: dict[str, Any], series: Series) -> None:
    # Imputer, gone in 0.22, wrote "NaN" for NaN.
    if state.get("missing_values") == "NaN":
        state["missing_values"] = np.nan
    state.pop("axis", None)
    if "statistics_" in state:
        kind = np.asarray(state["statistics_"]).dtype
        state.setdefault("_fit_dtype", kind)
        state.setdefault("_fill_dtype", state["_fit_dtype"])
        state.setdefault("indicator_", None)


def _upgrade_indicator(target: Any, state: dict[str, Any], series: Series) -> None:
    if "features_" in state:
        state.setdefault("_precomputed", False)
        state.setdefault("_n_features", state.get("n_features_in_"))


def _upgrade_function(target: Any, state: dict[str, Any], series: Series) -> None:
    # Until 0.21 validate=None meant True.
    if state.get("validate", False) is None:
        state["validate"] = True
    state.pop("pass_y", None)
    function = state.get("func")
    if isinstance(function, partial) and "force_all_finite" in function.keywords:
        finite = {"ensure_all_finite": function.keywords["force_all_finite"]}
        others = {name: value for name, value in function.keywords.items() if name != "force_all_finite"}
        state["func"] = partial(function.func, **others, **finite)


def _upgrade_neighbor_imputer(target: Any, state: dict[str, Any], series: Series) -> None:
    if "_fit_X" in state:
        mask = state.get("_mask_fit_X")
        state.setdefault("_valid_mask", ~np.all(np.isnan(state["_fit_X"]) if mask is None else mask, axis=0))


def _upgrade_iterative(target: Any, state: dict[str, Any], series: Series) -> None:
    if "initial_imputer_" in state:
        state.setdefault("_is_empty_feature", np.isnan(state["initial_imputer_"].statistics_))


UPGRADES = {
    "ColumnTransformer": _upgrade_columns,
    "IterativeImputer": _upgrade_iterative,
    "FunctionTransformer": _upgrade_function,
    "KNNImputer": _upgrade_neighbor_imputer,
    "MissingIndicator": _upgrade_indicator,
    "OneHotEncoder": _upgrade_one_hot,
    "OrdinalEncoder": _upgrade_ordinal,
    "SimpleImputer": _upgrade_imputer,
}
