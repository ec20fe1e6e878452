"""A store with one small model, quicker to make than the one that all tests share."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version


def add_row_model(folder: Path) -> Path:
    """The store below `folder`, with rows@1: a classifier of four numbers."""
    values = np.random.default_rng(1).uniform(0, 7, (200, 4))
    joblib.dump(LogisticRegression().fit(values, values.sum(axis=1) > 14), folder / "m.joblib")
    add_version(folder / "store", folder / "m.joblib", AddRequest("rows", "1"), LoadOptions())
    return folder / "store"
