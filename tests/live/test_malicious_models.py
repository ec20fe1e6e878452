"""Every hostile file through every command that touches models: add, inspect, verify, serve. No payload ever runs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions
from berth.models.manifest import MANIFEST, digest_file, encode_manifest, parse_manifest
from berth.publishing.adding import AddRequest, add_version
from live.berths import Serve, ask, start_berth
from live.server import wait_until
from malicious import MALICIOUS
from pickle_assembler import marker

NAMES = sorted(MALICIOUS)
# Each file is refused within this time, also on a machine with other work.
_SECONDS = 10


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every hostile file as a user might be handed it."""
    folder = tmp_path_factory.mktemp("hostile")
    files = {}
    for number, name in enumerate(NAMES):
        files[name] = folder / f"{number}.joblib"
        MALICIOUS[name](files[name])
    return files


@pytest.fixture(scope="module")
def hostile_store(hostile: dict[str, Path], store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store into which somebody put every hostile file, with digests that are right; beside one good model."""
    own = tmp_path_factory.mktemp("hostile-store")
    template = parse_manifest((store / "iris" / "1" / MANIFEST).read_bytes())
    for number, name in enumerate(NAMES):
        folder = own / f"m{number}" / "1"
        folder.mkdir(parents=True)
        artifact = folder / hostile[name].name
        artifact.write_bytes(hostile[name].read_bytes())
        files = {artifact.name: digest_file(artifact)}
        manifest = replace(template, name=f"m{number}", files=files, accelerated=None)
        (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    return own


def _no_payload_ran(paths: list[Path]) -> None:
    assert [path.name for path in paths if marker(path).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_add_refuses_and_leaves_nothing(hostile: dict[str, Path], name: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises((UnsafeArtifact, LoadError)) as refusal:
        add_version(tmp_path / "store", hostile[name], AddRequest("m", "1"), LoadOptions())
    assert time.monotonic() - begun < _SECONDS
    assert refusal.value.message.isprintable()
    assert not list((tmp_path / "store").rglob("*.joblib"))
    _no_payload_ran([hostile[name]])


@pytest.mark.parametrize("name", NAMES)
def test_inspect_tells_and_runs_nothing(hostile: dict[str, Path], name: str) -> None:
    begun = time.monotonic()
    result = CliRunner().invoke(berth, ["inspect", str(hostile[name])])
    assert time.monotonic() - begun < _SECONDS
    assert result.exit_code == 1
    assert "REFUSED" in result.output or isinstance(result.exception, UnsafeArtifact | LoadError), result.output
    _no_payload_ran([hostile[name]])


@pytest.mark.slow
def test_verify_names_every_one_with_its_reason(hostile: dict[str, Path], hostile_store: Path) -> None:
    result = CliRunner().invoke(berth, ["verify", "--store", str(hostile_store)])
    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if line.startswith("FAILED")]
    assert len(lines) == len(NAMES)
    assert all(line.partition(": ")[2] for line in lines)
    _no_payload_ran(list(hostile.values()))


@pytest.mark.slow
@pytest.mark.live
def test_serve_stays_alive_and_tells_why(
    hostile: dict[str, Path], hostile_store: Path, serve: Serve, run_dir: Path
) -> None:
    server = start_berth(serve, hostile_store, run_dir, workers=1)
    wait_until(lambda: "loading" not in str(ask(server, "GET", "/health")[1]["models"]), "every model to settle", 180)
    status, health = ask(server, "GET", "/health")
    assert status == 503
    assert {model["state"] for model in health["models"].values()} == {"failed"}
    assert all(model["reason"] for model in health["models"].values())
    assert ask(server, "POST", "/predict", {"features": [1.0, 2.0, 3.0, 4.0]})[1]["code"] == "model_failed"
    assert ask(server, "GET", "/livez")[0] == 200
    _no_payload_ran(list(hostile.values()))
    _no_payload_ran(sorted(hostile_store.rglob("*.joblib")))
