"""Honest models with numbers flipped, loaded and used in a child process each: none may end by a signal."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import random
import resource
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.unpickle.loading import default_allow, load_pickle
from estimator_table import ESTIMATORS

_SECONDS = int(os.environ.get("BERTH_TEST_MUTATION_SECONDS", "120"))
_SEED = int(os.environ.get("BERTH_TEST_MUTATION_SEED", "0"))
_MEMORY_BYTES = 4 << 30
_CPU_SECONDS = 20
_WHOLE = (0, 1, 2, 3, -1, -2, 5, 255, 1 << 15, (1 << 31) - 1, -(1 << 31), 1 << 40, -(1 << 40), (1 << 63) - 1)
# What a limit on memory or time does is no crash: the kernel ends the child for it.
_BY_LIMIT = (signal.SIGXCPU, signal.SIGKILL)


def _flip(array: np.ndarray[Any, Any], chance: random.Random) -> np.ndarray[Any, Any]:
    """The array with one or more numbers changed, or cut, or of another shape."""
    changed = array.copy()
    if changed.dtype.names:
        name = chance.choice(changed.dtype.names)
        changed[name] = _flip(changed[name], chance) if chance.random() < 0.9 else 0
        return changed
    if not changed.size:
        return changed
    kind = chance.random()
    if kind < 0.15 and changed.ndim:
        return changed[: chance.randrange(len(changed))].copy()
    if kind < 0.2:
        return np.concatenate([changed.ravel()] * 3)
    flat = changed.ravel()
    for _ in range(chance.choice((1, 1, 1, 4, flat.size))):
        at = chance.randrange(flat.size)
        if flat.dtype.kind in "iu":
            flat[at] = np.array(chance.choice(_WHOLE)).astype(flat.dtype)
        elif flat.dtype.kind == "f":
            flat[at] = chance.choice((0.0, -1.0, 1e308, np.nan, np.inf, flat[at] * 1e9))
        elif flat.dtype.kind == "b":
            flat[at] = not flat[at]
    return flat.reshape(changed.shape)


class _Mutating(pickle.Pickler):
    """Writes the model, with the chosen one of its arrays or whole numbers changed."""

    def __init__(self, stream: io.BytesIO, target: int, chance: random.Random) -> None:
        super().__init__(stream, 4)
        self.target, self.chance, self.arrays = target, chance, 0

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.ndarray and value.dtype.kind in "iufbV":
            self.arrays += 1
            if self.arrays - 1 == self.target:
                return _flip(value, self.chance).__reduce_ex__(4)
        state = getattr(value, "__dict__", None)
        if isinstance(state, dict) and type(value).__module__.startswith(("sklearn.", "scipy.")):
            whole = sorted(name for name, number in state.items() if type(number) is int)
            self.arrays += bool(whole)
            if whole and self.arrays - 1 == self.target:
                parts = list(value.__reduce_ex__(4))
                if len(parts) > 2 and isinstance(parts[2], dict):
                    parts[2] = {**parts[2], self.chance.choice(whole): self.chance.choice(_WHOLE)}
                    return tuple(parts)
        return NotImplemented


def _mutate(model: Any, chance: random.Random) -> bytes:
    count = _Mutating(io.BytesIO(), -1, chance)
    count.dump(model)
    stream = io.BytesIO()
    _Mutating(stream, chance.randrange(max(count.arrays, 1)), chance).dump(model)
    return stream.getvalue()


def _use(path: Path, rows: Any) -> None:
    try:
        model: Any = load_pickle(path, default_allow())
    except (LoadError, UnsafeArtifact):
        return
    for method in ("predict", "predict_proba", "transform", "decision_function"):
        try:
            getattr(model, method)(rows)
        except Exception:
            continue


def _end_of_child(path: Path, rows: Any) -> int:
    """The signal that ended a child which loads and uses the file; 0 for none."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            _use(path, rows)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_flipped_number_ends_the_process(tmp_path: Path) -> None:
    chance = random.Random(_SEED)
    names = sorted(ESTIMATORS)
    path = tmp_path / "model.pkl"
    ended: list[str] = []
    until = time.monotonic() + _SECONDS
    for turn in itertools.count():
        if time.monotonic() > until:
            break
        name = names[turn % len(names)]
        model, rows = ESTIMATORS[name]()
        path.write_bytes(_mutate(model, chance))
        if by := _end_of_child(path, rows):
            kept = tmp_path / f"{name}-{turn}.pkl"
            kept.write_bytes(path.read_bytes())
            ended.append(f"{kept}: {signal.Signals(by).name}")
    assert [line for line in ended if not line.endswith(tuple(by.name for by in _BY_LIMIT))] == []
