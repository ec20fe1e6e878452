"""A worker leaves what loading made out of its garbage collections."""

from __future__ import annotations

from pathlib import Path

import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec
from live.berths import Serve, ask, start_ready
from live.server import wait_until

pytestmark = pytest.mark.live
# What a collection looks through, in its worker.
LOOKED_THROUGH = """
import gc
import numpy as np

def load(directory):
    return lambda inputs: {"prediction": np.full(len(inputs["x"]), float(len(gc.get_objects())))}
"""


def test_a_collection_passes_over_what_loading_made(serve: Serve, tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.py").write_text(LOOKED_THROUGH, "utf-8")
    request = AddRequest("objects", "1", "python", inputs=(TensorSpec("x", "FP64", (-1, 1)),))
    add_version(tmp_path / "store", tmp_path / "model", request, LoadOptions(allow_code=True))
    server = start_ready(serve, tmp_path / "store", run_dir, workers=1, allow_code="true")

    def count_objects() -> int:
        return int(ask(server, "POST", "/predict", {"features": [0.0]})[1]["prediction"][0])

    wait_until(lambda: count_objects() < 20_000, "collections to pass over most objects")
