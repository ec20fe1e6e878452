"""What the worker of a default server imports: nothing of the features that are off."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from live.berths import Serve, ask, start_ready
from live.server import Server

pytestmark = pytest.mark.live
# Python imports it at its start; each process writes down at its end what it had imported.
_NOTE = """
import atexit, json, os, sys

def note():
    with open(os.path.join(os.environ["BERTH_RUN_DIR"], f"modules-{os.getpid()}.json"), "w") as file:
        json.dump(sorted(sys.modules), file)

atexit.register(note)
"""
# Rooms of the package, and files of others, that belong to a command or to a feature that is off.
OFF = {
    *("berth.rpc", "berth.consuming", "berth.pulling", "berth.publishing", "berth.cli", "berth.switchgate"),
    *(f"berth.score.{name}" for name in ("job", "csv_file", "jsonl_file", "parquet_file", "remote_files", "shards")),
}
LIBRARIES = {
    *("grpc", "google", "confluent_kafka", "redis", "mlflow", "boto3", "botocore", "s3fs", "gcsfs", "adlfs", "fsspec"),
    *("cryptography", "huggingface_hub", "dvc", "opentelemetry", "requests", "httpx", "torch", "jsonschema"),
}


@pytest.fixture
def modules(serve: Serve, store: Path, tmp_path: Path) -> Sequence[set[str]]:
    """Those of each process of a server that has predicted, the worker's last."""
    (tmp_path / "sitecustomize.py").write_text(_NOTE, "utf-8")

    def noted(command: Sequence[str], environ: Mapping[str, str], port: int) -> Server:
        return serve(command, {**environ, "PYTHONPATH": str(tmp_path)}, port)

    server = start_ready(noted, store, tmp_path / "run", models="iris@1", workers=1)
    assert ask(server, "POST", "/predict", {"features": [5.1, 3.5, 1.4, 0.2]})[0] == 200
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    notes = (tmp_path / "run").glob("modules-*.json")
    return sorted((set(json.loads(note.read_text("utf-8"))) for note in notes), key=len)


def test_a_default_server_imports_nothing_of_what_is_off(modules: Sequence[set[str]]) -> None:
    assert "berth.web.pipeline" in modules[-1]
    assert "berth.web.pipeline" not in modules[0]  # gunicorn's master
    for each in modules:
        assert sorted(name for name in each if any(f"{name}.".startswith(f"{off}.") for off in OFF)) == []
        assert LIBRARIES & each == set()
