"""The scripts in ci/: run as people do, or, as they have no suffix, loaded as modules that tests can call."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def ci(
    script: str, *words: str | Path, cwd: Path = ROOT, fails: bool = False, environ: Mapping[str, str] | None = None
) -> str:
    """What a script prints; with `fails`, what it complains of."""
    command = [cwd / "ci" / script, *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environ or {})})
    assert (done.returncode != 0) == fails, f"{script}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return (done.stderr if fails else done.stdout).strip()


@cache
def find(what: str) -> str:
    """What ci/containers.sh finds as `builder` or `engine`; empty when it finds none."""
    script = f'. "{ROOT}/ci/containers.sh"; {what}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout.strip()


def make_keys(folder: Path) -> dict[str, str]:
    """The environment of somebody who may sign, for a registry on this machine; needs cosign."""
    environ = {"COSIGN_PASSWORD": "", "PLAIN_HTTP": "1"}
    command = ["cosign", "generate-key-pair"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env={**os.environ, **environ})
    return environ | {"COSIGN_KEY": f"{folder}/cosign.key", "COSIGN_PUBLIC_KEY": f"{folder}/cosign.pub"}


def load_script(name: str) -> ModuleType:
    """The module that ci/NAME would be."""
    folder = str(ROOT / "ci")
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as Python does for a script: what it imports lies beside it
    loader = SourceFileLoader(name.replace("-", "_"), str(ROOT / "ci" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module
