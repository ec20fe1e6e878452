"""What the tests of acceleration share: make the accelerated form of an estimator, and ask both forms."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from berth.accelerate.make import Accelerated, make_accelerated
from berth.accelerate.refusal import Refusal
from berth.accelerate.session import load_accelerated
from berth.loaders.estimator import serve_estimator
from berth.models.model import Loaded
from berth.tensors.arrays import Array
from berth.tensors.schema import required


@dataclass(frozen=True)
class Both:
    """A loaded estimator, what became of its acceleration, and the accelerated form if there is one."""

    plain: Loaded
    result: Accelerated | Refusal
    fast: Loaded | None

    @property
    def names(self) -> list[str]:
        """The outputs."""
        return [spec.name for spec in required(self.plain.outputs)]

    def ask(self, tensors: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """The plain and the accelerated answer."""
        assert self.fast is not None, str(self.result)
        return self.plain.predict(tensors, self.names), self.fast.predict(tensors, self.names)


def make_both(
    estimator: Any, folder: Path, rows: int = 1500, sample: Mapping[str, Array] | None = None, inputs: Any = ()
) -> Both:
    """Accelerate a fitted estimator, compared on so many rows; the estimator itself is left alone."""
    loaded = serve_estimator(copy.deepcopy(estimator), inputs, {})
    path, served = folder / "accelerated.onnx", tuple(inputs) or loaded.inputs
    result = make_accelerated(loaded, served, required(loaded.outputs), sample, path, 1, rows)
    assert path.exists() == isinstance(result, Accelerated)
    fast = load_accelerated(path, served, required(loaded.outputs), 1) if path.exists() else None
    return Both(loaded, result, fast)
