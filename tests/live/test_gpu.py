"""On a machine with an NVIDIA GPU: torch answers on it, as on the CPU, and one worker has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.cpu import count_gpus
from berth.loaders.formats import LoadOptions
from berth.models.store import Entry
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.tensors.arrays import TensorSpec
from live.berths import Serve, ask, start_ready

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here, or torch cannot use it"),
]
ROWS = np.random.default_rng(0).normal(size=(64, 30)).astype(np.float32)


def make_net() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3)).eval()


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """The net as a script, for which there is an accelerated form that a machine without a GPU would serve."""
    torch.jit.script(make_net()).save(str(tmp_path / "net.pt"))
    request = AddRequest("net", inputs=(TensorSpec("x", "FP32", (-1, 30)),))
    return add_version(tmp_path / "store", tmp_path / "net.pt", request, LoadOptions(accelerate="auto"))


def test_torch_answers_on_the_gpu_as_on_the_cpu(entry: Entry) -> None:
    before = torch.cuda.memory_allocated()
    model = open_version(entry, LoadOptions(accelerate="auto"), "warn")
    assert not model.accelerated
    assert torch.cuda.memory_allocated() > before
    found = model.predict({"x": ROWS}, ["output"])["output"]
    with torch.inference_mode():
        wanted = make_net()(torch.from_numpy(ROWS)).numpy()
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_one_worker_has_the_gpu(serve: Serve, entry: Entry, run_dir: Path) -> None:
    server = start_ready(serve, entry.folder.parents[1], run_dir)
    assert len(server.workers()) == 1
    assert count_gpus() >= 1
    assert ask(server, "POST", "/predict", {"features": ROWS[:1].tolist()})[0] == 200
