"""`berth add` takes memory in proportion to the model, not to 10,000 rows of all its columns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from berth.models.store import find_version, read_manifest

WORDS = 60_000
MOST_BYTES = 1_000_000_000


def text_model(path: Path) -> Path:
    """A classifier of texts with many words, most of which occur once."""
    words = [f"word{at}" for at in range(WORDS)]
    texts = [" ".join(words[at::40]) for at in range(40)]
    joblib.dump(make_pipeline(CountVectorizer(), LogisticRegression(max_iter=5)).fit(texts, [0, 1] * 20), path)
    return path


def wide_model(path: Path) -> Path:
    """A classifier of as many numbers."""
    rows = np.random.default_rng(0).normal(size=(40, WORDS))
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression(max_iter=5)).fit(rows, [0, 1] * 20), path)
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("make", [text_model, wide_model])
@pytest.mark.parametrize("accelerate", ["off", "auto"])
def test_a_model_of_many_columns_is_added_in_little_memory(
    accelerate: str, make: Callable[[Path], Path], tmp_path: Path
) -> None:
    file = make(tmp_path / "wide.joblib")
    command = [sys.executable, "-m", "berth", "add", str(file), "--name", "wide", "--store", str(tmp_path / "store")]
    process = subprocess.Popen(command, env={**os.environ, "BERTH_ACCELERATE": accelerate})
    # Of the command and of the child in which it loads the file, the larger.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    accelerated = read_manifest(find_version(tmp_path / "store", "wide")).accelerated or {}
    assert ("file" in accelerated) is (accelerate == "auto" and make is wide_model)
    assert usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) < MOST_BYTES
