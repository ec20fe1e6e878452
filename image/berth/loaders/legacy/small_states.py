"""What is a line or two in each of the other kinds: neighbours, naive Bayes, texts, clusters, nets, scalers."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.legacy.made_with import Series


def _upgrade_bayes(target: Any, state: dict[str, Any], series: Series) -> None:
    """`sigma_` became `var_` in 1.0."""
    if "sigma_" in state:
        state.setdefault("var_", state.pop("sigma_"))


def _upgrade_idf(target: Any, state: dict[str, Any], series: Series) -> None:
    """The weights of words were the diagonal of a matrix until 1.4; without them a text weighs its words alike."""
    if "_idf_diag" in state:
        state["idf_"] = np.asarray(state.pop("_idf_diag").diagonal())


def _upgrade_clusters(target: Any, state: dict[str, Any], series: Series) -> None:
    state.setdefault("_n_threads", 1)
    if "cluster_centers_" in state:
        state.setdefault("_n_features_out", len(state["cluster_centers_"]))


def _upgrade_polynomial(target: Any, state: dict[str, Any], series: Series) -> None:
    if "n_output_features_" not in state:
        return
    degree = state["degree"]
    lowest, highest = (0, degree) if isinstance(degree, int | np.integer) else tuple(degree)
    state.setdefault("_min_degree", int(lowest))
    state.setdefault("_max_degree", int(highest))
    state.setdefault("_n_out_full", state["n_output_features_"] + (0 if state.get("include_bias", True) else 1))


def _upgrade_neighbors(target: Any, state: dict[str, Any], series: Series) -> None:
    if state.get("_fit_X") is not None:
        state.setdefault("n_samples_fit_", state["_fit_X"].shape[0])
    state.setdefault("effective_metric_params_", {})


UPGRADES = {
    "BaseKMeans": _upgrade_clusters,
    "_BaseKMeans": _upgrade_clusters,
    "GaussianNB": _upgrade_bayes,
    "NeighborsBase": _upgrade_neighbors,
    "PolynomialFeatures": _upgrade_polynomial,
    "TfidfTransformer": _upgrade_idf,
}
