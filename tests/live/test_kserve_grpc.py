"""KServe's InferenceGRPCClient, unmodified and in its own environment, against a real server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import DATATYPES, TensorSpec
from live.berths import running_ready
from live.server import HOST, free_port
from other_venv import VENVS

pytestmark = [pytest.mark.live, pytest.mark.slow]
_ECHO = "def load(directory):\n    return dict\n"


def _add(store: Path, folder: Path, name: str, datatypes: list[str]) -> None:
    folder.mkdir()
    (folder / "model.py").write_text(_ECHO, "utf-8")
    specs = tuple(TensorSpec(datatype.lower(), datatype, (-1, 2)) for datatype in datatypes)
    request = AddRequest(name, "1", "python", inputs=specs, outputs=specs)
    add_version(store, folder, request, LoadOptions(allow_code=True))


def test_every_datatype_in_batches_of_1_and_64(tmp_path: Path) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed")
    python = VENVS / "kserve" / "bin" / "python"
    if not python.exists():
        pytest.skip("KServe is not installed; bench/run makes bench/.venvs/kserve")
    _add(tmp_path / "store", tmp_path / "echo", "echo", list(DATATYPES))
    _add(tmp_path / "store", tmp_path / "doubles", "doubles", ["FP64"])
    port = free_port()
    settings = {"allow_code": True, "workers": 1, "grpc_port": port}
    with running_ready(tmp_path / "store", tmp_path, **settings):
        command = [str(python), str(Path(__file__).with_name("kserve_client.py")), f"{HOST}:{port}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {
        "live": True,
        "ready": True,
        "model": True,
        "wrong": {"1": [], "64": []},
        "typed": [True, True],
        "types": len(DATATYPES),
    }
