"""Estimators as files of each format, and the same loaded again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib

from berth.loaders.fitted import reset_jobs
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import Manifest, digest_file
from berth.models.model import Loaded
from berth.tensors.schema import required
from estimator_table import inputs_of

OPTIONS = LoadOptions()


def dump_pickle(estimator: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(estimator))


def dump_joblib_packed(estimator: Any, path: Path) -> None:
    joblib.dump(estimator, path, compress=3)


def dump_skops(estimator: Any, path: Path) -> None:
    from skops import io

    io.dump(estimator, path)


DUMPS: dict[str, tuple[str, Callable[[Any, Path], None]]] = {
    "joblib": ("model.joblib", joblib.dump),
    "joblib-packed": ("model.joblib", dump_joblib_packed),
    "pickle": ("model.pkl", dump_pickle),
    "skops": ("model.skops", dump_skops),
}


def save(estimator: Any, directory: Path, dump: str = "joblib") -> Manifest:
    name, write = DUMPS[dump]
    write(estimator, directory / name)
    return Manifest("m", "1", dump.split("-")[0], "2026-01-01T00:00:00Z", {name: digest_file(directory / name)})


def save_and_load(estimator: Any, directory: Path, dump: str = "joblib") -> Loaded:
    return load(directory, save(estimator, directory, dump), OPTIONS)


def ask(loaded: Loaded, rows: Any) -> dict[str, Any]:
    """Every output that a request without a choice gets."""
    return loaded.predict(inputs_of(rows, loaded.inputs), [spec.name for spec in required(loaded.outputs)])


def expected(estimator: Any, rows: Any) -> dict[str, Any]:
    """What the estimator itself answers, under the names of the contract.

    In one job: with several, a forest of regressors adds up in the order in which its threads happen to end.
    """
    estimator = pickle.loads(pickle.dumps(estimator))
    reset_jobs(estimator)
    if not hasattr(estimator, "predict"):
        return {"transformed": estimator.transform(rows)}
    found = {"prediction": estimator.predict(rows)}
    if hasattr(estimator, "predict_proba"):
        said = estimator.predict_proba(rows)
        several = isinstance(said, list)
        found |= {f"probabilities_{at}": one for at, one in enumerate(said)} if several else {"probabilities": said}
    return found
