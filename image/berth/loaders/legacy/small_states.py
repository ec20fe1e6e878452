"""What is a line or two in each of the other kinds: neighbours, naive Bayes, texts, clusters, nets, scalers."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.legacy.layouts import rename_keys
from berth.loaders.legacy.made_with import Series


def upgrade_minkowski(state: Any) -> Any:
    """Before 1.0 the metric had no weights, which a vector of one zero stood for."""
    if type(state) is tuple and len(state) == 3 and isinstance(state[1], np.ndarray) and state[1].tolist() == [0.0]:
        return state[0], np.empty(0), state[2]
    return state


def _upgrade_density(target: Any, state: dict[str, Any], series: Series) -> None:
    state.setdefault("bandwidth_", state.get("bandwidth"))


def _upgrade_isotonic(target: Any, state: dict[str, Any], series: Series) -> None:
    """The points, from which `f_` is built when the state is set."""
    rename_keys(state, {"_necessary_X_": "X_thresholds_", "_necessary_y_": "y_thresholds_"})


def _upgrade_general(target: Any, state: dict[str, Any], series: Series) -> None:
    """Of a loss only the way back from the raw score is used."""
    if "coef_" in state:
        from sklearn._loss.link import IdentityLink
        from sklearn._loss.loss import HalfPoissonLoss

        state["_base_loss"] = loss = HalfPoissonLoss()
        by_power = type(target).__name__ == "TweedieRegressor" and state.get("link", "auto") == "auto"
        if state.get("link") == "identity" or (by_power and state.get("power", 0) <= 0):
            loss.link = IdentityLink()


def upgrade_spline(state: dict[str, Any]) -> dict[str, Any]:
    """A spline of scipy before 1.15, as today's keeps itself."""
    if not {"t", "c", "k"} <= state.keys():
        return state
    from scipy.interpolate import BSpline

    made = BSpline(state["t"], state["c"], state["k"], state.get("extrapolate", True), state.get("axis", 0))
    return dict(vars(made))


def _upgrade_bayes(target: Any, state: dict[str, Any], series: Series) -> None:
    """`sigma_` became `var_` in 1.0."""
    rename_keys(state, {"sigma_": "var_"})


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
    # A pair of degrees came in 1.0, with these three.
    state.setdefault("_min_degree", 0)
    state.setdefault("_max_degree", state["degree"])
    state.setdefault("_n_out_full", state["n_output_features_"])


def _upgrade_neighbors(target: Any, state: dict[str, Any], series: Series) -> None:
    if state.get("_fit_X") is not None:
        state.setdefault("n_samples_fit_", state["_fit_X"].shape[0])
    state.setdefault("effective_metric_params_", {})


def _upgrade_centroids(target: Any, state: dict[str, Any], series: Series) -> None:
    """Until 1.5 the nearest centroid counted, whatever the shares of the classes."""
    if "centroids_" in state and series < (1, 6):
        count = len(state["centroids_"])
        state["class_prior_"] = np.full(count, 1.0 / count)


def _upgrade_kernel(target: Any, state: dict[str, Any], series: Series) -> None:
    if "X_fit_" in state:
        gamma = state.get("gamma")
        state.setdefault("gamma_", 1.0 / state["X_fit_"].shape[1] if gamma is None else gamma)
    rename_keys(state, {"alphas_": "eigenvectors_", "lambdas_": "eigenvalues_"})


def _upgrade_factors(target: Any, state: dict[str, Any], series: Series) -> None:
    if "components_" in state:
        count = state["components_"].shape[0]
        state["n_components"] = count if state.get("n_components") == "warn" else state.get("n_components")
        state.setdefault("_n_components", count)


def _upgrade_process(target: Any, state: dict[str, Any], series: Series) -> None:
    """Before 0.23 targets were centred and not scaled."""
    if "_y_train_mean" in state:
        state.setdefault("_y_train_std", np.ones(np.shape(state["_y_train_mean"])))


UPGRADES = {
    "GaussianProcessRegressor": _upgrade_process,
    "IsotonicRegression": _upgrade_isotonic,
    "KernelDensity": _upgrade_density,
    "_GeneralizedLinearRegressor": _upgrade_general,
    "KernelPCA": _upgrade_kernel,
    "NearestCentroid": _upgrade_centroids,
    "_BaseNMF": _upgrade_factors,
    "BaseKMeans": _upgrade_clusters,
    "_BaseKMeans": _upgrade_clusters,
    "GaussianNB": _upgrade_bayes,
    "NeighborsBase": _upgrade_neighbors,
    "PolynomialFeatures": _upgrade_polynomial,
    "TfidfTransformer": _upgrade_idf,
}
