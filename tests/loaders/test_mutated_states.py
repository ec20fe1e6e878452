"""Honest models with numbers flipped, loaded and used in a child process each: none may end by a signal."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pytest

import use_in_child
from estimator_table import ESTIMATORS

_SECONDS = int(os.environ.get("BERTH_TEST_MUTATION_SECONDS", "120"))
_SEED = int(os.environ.get("BERTH_TEST_MUTATION_SEED", "0"))
_WHOLE = (0, 1, 2, 3, -1, -2, 5, 255, 1 << 15, (1 << 31) - 1, -(1 << 31), 1 << 40, -(1 << 40), (1 << 63) - 1)


def _flip(array: np.ndarray[Any, Any], chance: random.Random) -> np.ndarray[Any, Any]:
    """The array with one or more numbers changed, or cut, or of another shape."""
    changed = array.copy()
    if changed.dtype.names:
        name = chance.choice(changed.dtype.names)
        field = _flip(changed[name], chance)
        if field.shape != changed[name].shape:  # a field alone cannot be longer or shorter
            return changed[: len(changed) // 2].copy()
        changed[name] = field if chance.random() < 0.9 else 0
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_flipped_number_ends_the_process(tmp_path: Path) -> None:
    chance = random.Random(_SEED)
    names = sorted(ESTIMATORS)
    ended: list[str] = []
    script = Path(use_in_child.__file__)
    with subprocess.Popen([sys.executable, script], stdin=PIPE, stdout=PIPE, text=True) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        until = time.monotonic() + _SECONDS
        for turn in itertools.count():
            if time.monotonic() > until:
                break
            name = names[turn % len(names)]
            model, rows = ESTIMATORS[name]()
            path, asked = tmp_path / "model.pkl", tmp_path / "rows.pkl"
            path.write_bytes(_mutate(model, chance))
            asked.write_bytes(pickle.dumps(rows))
            user.stdin.write(f"{path} {asked}\n")
            user.stdin.flush()
            if by := int(user.stdout.readline()):
                path.rename(tmp_path / f"{name}-{turn}.pkl")
                ended.append(f"{name}-{turn}.pkl in {tmp_path}: {signal.Signals(by).name}")
    assert ended == []
