"""Vertex AI names a folder in a bucket: the server fetches the model and serves it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from live.berths import Serve, ask
from live.server import HOST, Server, free_port, wait_until
from other_venv import ROOT, VENVS, other_venv

pytestmark = [pytest.mark.live, pytest.mark.slow]
_PUT = (
    "import sys, fsspec; f = fsspec.filesystem('gs'); f.mkdir('models'); f.put(sys.argv[1], 'models/iris/model.joblib')"
)


def test_vertex_ai_names_a_bucket(tmp_path: Path, serve: Serve) -> None:
    """Google's emulator has the file; nothing is set but what Vertex AI sets, and how the emulator is reached."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    programs = other_venv("clouds", ROOT / "tests" / "venvs" / "clouds.txt")
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), tmp_path / "model.joblib")
    bucket, port = free_port(), free_port()
    command = [str(programs / "gcp-storage-emulator"), "start", f"--host={HOST}", f"--port={bucket}", "--in-memory"]
    emulator = Server(command, {"PATH": os.environ["PATH"]}, bucket, tmp_path / "emulator.log")
    try:
        emulator.wait_accepting()
        libraries = next((VENVS / "clouds" / "lib").glob("python*/site-packages"))
        environ = {"STORAGE_EMULATOR_HOST": f"http://{HOST}:{bucket}", "FSSPEC_GS_TOKEN": "anon"}
        environ |= {"PYTHONPATH": f"{ROOT / 'image'}:{libraries}", "PATH": os.environ["PATH"]}
        put = [sys.executable, "-c", _PUT, str(tmp_path / "model.joblib")]
        subprocess.run(put, env={**os.environ, **environ}, check=True, capture_output=True)
        vertex = {"AIP_HTTP_PORT": str(port), "AIP_STORAGE_URI": "gs://models/iris", "AIP_HEALTH_ROUTE": "/h"}
        vertex["AIP_PREDICT_ROUTE"] = "/v1/endpoints/1/deployedModels/2"
        server = serve([sys.executable, "-m", "berth", "serve"], {**environ, **vertex}, port)
        wait_until(lambda: httpx.get(f"{server.url}/h").status_code == 200, f"readiness; log:\n{server.log()}", 60)
        instances = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
        assert ask(server, "POST", vertex["AIP_PREDICT_ROUTE"], instances)[1]["predictions"] == [0]
    finally:
        emulator.stop()
