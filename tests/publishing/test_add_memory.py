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
# The most memory that a command has had, or the child in which it loads the file. By a small process between: what a
# command starts with counts the memory of the process that started it, and these tests' may have had a gigabyte.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


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
    environ = {**os.environ, "BERTH_ACCELERATE": accelerate, "BERTH_LOAD_SECONDS": "900"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], env=environ, stdout=subprocess.PIPE, text=True, check=True
    )
    most = int(done.stdout.splitlines()[-1])
    accelerated = read_manifest(find_version(tmp_path / "store", "wide")).accelerated or {}
    assert ("file" in accelerated) is (accelerate == "auto" and make is wide_model)
    assert most * (1 if sys.platform == "darwin" else 1024) < MOST_BYTES
