"""A folder whose model.py is run: anything Python can do, and therefore only when BERTH_ALLOW_CODE says so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.artifacts import learn_outputs
from berth.loaders.formats import LoadOptions
from berth.models.manifest import Manifest
from berth.models.model import Loaded
from berth.tensors.arrays import Array, Tensors

_FILE = "model.py"

_Answer: TypeAlias = Callable[[dict[str, Array]], Any]


def _import_model(directory: Path, name: str) -> ModuleType:
    """model.py as a package of its own name, so that it can say `from . import helper`."""
    spec = spec_from_file_location(name, directory / _FILE, submodule_search_locations=[str(directory)])
    if spec is None or spec.loader is None:
        raise LoadError(f"{_FILE} cannot be imported as Python")
    # A __pycache__ in the store would be a file that model.json does not name. Modules may be imported
    # as late as in a prediction, so this stays.
    sys.dont_write_bytecode = True
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _forget(name: str) -> None:
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[module]


def _load_answer(directory: Path, name: str) -> _Answer:
    try:
        answer: _Answer = _import_model(directory, name).load(directory)
    except Exception as error:  # the user's own code may raise anything
        _forget(name)
        raise LoadError(f"{_FILE}: load(directory) failed: {type(error).__name__}: {error}") from error
    if not callable(answer):
        _forget(name)
        raise LoadError(f"{_FILE}: load(directory) returned {answer!r:.80}; it must return predict(inputs)")
    return answer


def _as_arrays(answer: Any) -> dict[str, Array]:
    if not isinstance(answer, dict):
        raise RuntimeError(f"{_FILE}: predict returned a {type(answer).__name__}; it must return a dict of arrays")
    return {str(name): np.asarray(values) for name, values in answer.items()}


def load_python(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """What load(directory) in the folder's model.py returns. Raises UnsafeArtifact unless code is allowed."""
    if not options.allow_code:
        raise UnsafeArtifact(f"{_FILE} is code that would run here; set BERTH_ALLOW_CODE=true if it is yours")
    if _FILE not in manifest.artifacts:
        raise LoadError(f"the format python wants a file {_FILE}; found {', '.join(manifest.artifacts)}")
    answer = _load_answer(directory, f"berth_model_{manifest.sha256[:16]}")

    def run(tensors: Tensors) -> dict[str, Array]:
        return _as_arrays(answer(dict(tensors)))

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        answers = run(tensors)
        if missing := [name for name in wanted if name not in answers]:
            raise RuntimeError(f"{_FILE}: predict returned {', '.join(answers)} and no {missing[0]}")
        return {name: answers[name] for name in wanted}

    return Loaded(predict, manifest.inputs, manifest.outputs or learn_outputs(run, manifest.inputs))
