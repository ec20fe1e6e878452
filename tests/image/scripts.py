"""The scripts in ci/, which have no suffix, as modules that tests can call."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


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
