"""Loads model files and uses them, each in a child of its own: run as a script, which answers one line for each.

A line on stdin is `model.pkl rows.pkl`; the answer is the number of the signal that ended the child, 0 for none. The
script itself never predicts, so that its children may: an OpenMP library that has run does not survive a fork.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.fitted import reset_jobs
from berth.loaders.unpickle.loading import default_allow, load_pickle

_MEMORY_BYTES = 4 << 30
_SECONDS = 20
_METHODS = ("predict", "predict_proba", "transform", "decision_function")


def _use(path: Path, rows: Any) -> None:
    try:
        model: Any = load_pickle(path, default_allow())
    except (LoadError, UnsafeArtifact):
        return
    reset_jobs(model)
    for method in _METHODS:
        try:
            getattr(model, method)(rows)
        except Exception:  # a wrong answer or an error is no crash
            continue


def _child(path: Path, rows: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        _use(path, pickle.loads(rows.read_bytes()))
    finally:
        os._exit(0)


def _main() -> None:
    from sklearn.utils import all_estimators

    all_estimators()
    for line in sys.stdin:
        path, rows = map(Path, line.split())
        child = os.fork()
        if not child:
            _child(path, rows)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
