"""TorchScript modules: accelerated where ONNX answers the same, plain with the reason where it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.loaders.formats import LoadOptions
from berth.models.store import Entry, read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.tensors.arrays import TensorSpec

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
# Scripts are still about, whatever torch would rather have.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
OPTIONS = LoadOptions(accelerate="auto")
WIDE = (TensorSpec("x", "FP32", (-1, 4)),)


class Dense(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Two layers, with weights so small that no CPU's order of additions moves a FP32 result by a millionth."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        with torch.no_grad():
            self.layers[0].weight /= 100

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
        return self.layers(x)


class Branching(Dense):
    """Answers a row by its company."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
        if bool((x > 0).all()):
            return self.layers(x) + 1.0
        return self.layers(x)


class Dice(Dense):
    """Never answers the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
        return self.layers(x) + torch.rand([1])


class Words(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Looks whole numbers up, of which there are five."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
        return self.table(x).sum(dim=1)


def add(folder: Path, module: Any, inputs: tuple[TensorSpec, ...] = WIDE, sample: str = "") -> Entry:
    """Add a script, with a sample if there is one."""
    torch.jit.script(module.eval()).save(str(folder / "net.pt"))
    rows = folder / "sample.csv" if sample else None
    if rows is not None:
        rows.write_text(sample, "utf-8")
    return add_version(folder / "store", folder / "net.pt", AddRequest("net", inputs=inputs, sample=rows), OPTIONS)


def why_plain(entry: Entry) -> str:
    return str((read_manifest(entry).accelerated or {}).get("reason"))


def test_a_script_is_answered_alike(tmp_path: Path) -> None:
    entry = add(tmp_path, Dense())
    fast = open_version(entry, OPTIONS, "warn")
    plain = open_version(entry, LoadOptions(accelerate="off"), "warn")
    assert (fast.accelerated, plain.accelerated) == (True, False)
    rng = np.random.default_rng(1)
    for rows in (rng.normal(size=(1, 4)), np.abs(rng.normal(size=(7, 4))), np.full((2, 4), np.nan)):
        asked = {"x": rows.astype(np.float32)}
        one, other = (model.predict(asked, ["output"])["output"] for model in (fast, plain))
        assert one.dtype == other.dtype
        assert np.allclose(one, other, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_torch_is_not_imported_to_serve_it(tmp_path: Path) -> None:
    add(tmp_path, Dense())
    ask = (
        "import sys; from berth.loaders.formats import LoadOptions; from berth.serving.opening import open_version;"
        "from berth.models.store import select_models; from pathlib import Path;"
        "entry = select_models(Path(sys.argv[1]), '')[0];"
        "assert open_version(entry, LoadOptions(accelerate='require'), 'warn').accelerated;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", ask, str(tmp_path / "store")], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("module", [Dice, Branching])
def test_what_is_not_the_same_is_served_plain(tmp_path: Path, module: type) -> None:
    assert "output is off by" in why_plain(add(tmp_path, module()))


def test_whole_numbers_need_a_sample(tmp_path: Path) -> None:
    words = (TensorSpec("x", "INT64", (-1, 2)),)
    assert "give --sample" in why_plain(add(tmp_path, Words(), words))
    sampled = tmp_path / "sampled"
    sampled.mkdir()
    entry = add(sampled, Words(), words, "a,b\n0,1\n2,3\n4,0\n")
    assert open_version(entry, OPTIONS, "warn").accelerated, why_plain(entry)


def test_sizes_that_are_open_are_not_guessed(tmp_path: Path) -> None:
    entry = add(tmp_path, torch.nn.ReLU(), (TensorSpec("x", "FP32", (-1, -1)),))
    assert "[-1, -1]" in why_plain(entry)
