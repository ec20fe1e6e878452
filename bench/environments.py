"""The peers' virtual environments: made once from pinned requirements; what cannot be installed is reported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cases import MODELS, model_file
from compared_servers import APPS, SKLEARN, VENVS, Peer

_TORCH = "torch==2.13.0"
_INSTALLED = ".installed"


def _pip(folder: Path, *arguments: str) -> None:
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)


def _make(peer: Peer, torch_index: str) -> None:
    folder, requirements = VENVS / peer.venv, APPS / f"{peer.venv}.txt"
    stamp = folder / _INSTALLED
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True, text=True)
    _pip(folder, "-r", str(requirements))
    if "mlp" in peer.models:
        _pip(folder, *(["--index-url", torch_index] if torch_index else []), _TORCH)
    stamp.write_text(requirements.read_text())


def _save_for_mlflow(peer: Peer, models: Sequence[str]) -> None:
    for model in set(models) & SKLEARN:
        folder = MODELS / "mlflow" / model
        shutil.rmtree(folder, ignore_errors=True)
        command = [peer.python, str(APPS / "mlflow_save.py"), str(model_file(model)), str(folder)]
        subprocess.run(command, check=True, capture_output=True, text=True)


def prepare(peer: Peer, models: Sequence[str], torch_index: str) -> str:
    """Make the peer ready to start; why it cannot be, or nothing."""
    try:
        if peer.venv:
            _make(peer, torch_index)
        if peer.name == "mlflow":
            _save_for_mlflow(peer, models)
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or str(error)).splitlines() if line.strip()]
        return " | ".join(lines[-2:])[-300:] or str(error)
    return ""


def version_of(peer: Peer) -> str:
    """The version of the peer's package in its environment."""
    code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    done = subprocess.run([peer.python, "-c", code, peer.package], check=False, capture_output=True, text=True)
    return done.stdout.strip() or "?"
