"""The trial of a version: loaded, warmed up and compared with its example in a child process, before this one does.

A version that passes is loaded again by whoever serves it. It is the same version: each of the two checks every file
against the digests of model.json before a byte is deserialised, and the server's verdicts are kept by model.json's own.
"""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path

from berth.loaders.ensemble import member_manifests
from berth.loaders.formats import LoadOptions
from berth.models.manifest import Manifest
from berth.models.model import Model
from berth.models.store import Entry, read_manifest
from berth.serving.containment import Budget, Report, contain
from berth.serving.memory import free_memory
from berth.serving.opening import open_version

LOADED, ANSWERED = "it was loaded", "it predicted its first rows"
# Seconds of CPU time for a small file, where BERTH_LOAD_SECONDS is auto; importing a library is part of it.
_CPU_SECONDS = {"python": 60.0, "mlflow": 30.0, "torchscript": 30.0, "torch-export": 60.0, "safetensors": 30.0}
_OTHER_CPU_SECONDS = 6.0
_BYTES_PER_SECOND = 1_000_000
# Clocks run on while a process waits for a disk, or for its turn on a busy machine.
_CLOCK_TIMES = 5.0
_MEMORY_SHARE = 0.8
_ESTIMATORS = ("joblib", "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline")
_LIBRARIES = {
    **dict.fromkeys(("joblib", "pickle", "skops"), _ESTIMATORS),
    **dict.fromkeys(("torchscript", "torch-export", "safetensors"), ("torch",)),
    "onnx": ("onnxruntime",),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
}


def budget_for(options: LoadOptions, format_: str, size_bytes: int) -> Budget:
    """What loading a version may use: by the settings, or where they are auto by its format and size."""
    memory = options.load_memory_bytes
    if memory is None and (free := free_memory()) is not None:
        memory = int(free * _MEMORY_SHARE)
    if options.load_seconds is not None:
        return Budget(options.load_seconds, math.inf, memory)
    cpu = (_CPU_SECONDS.get(format_, _OTHER_CPU_SECONDS) + size_bytes / _BYTES_PER_SECOND) * options.cpu_threads
    return Budget(cpu * _CLOCK_TIMES, cpu, memory)


def budget_of(folder: Path, manifest: Manifest, options: LoadOptions) -> Budget:
    """What loading a version may use, the members of an ensemble included."""
    members = member_manifests(folder, manifest)
    formats = [manifest.format, *(member.format for member in members)]
    slowest = max(formats, key=lambda name: _CPU_SECONDS.get(name, _OTHER_CPU_SECONDS))
    return budget_for(options, slowest, size_of(manifest) + sum(map(size_of, members)))


def import_everything(folder: Path, manifest: Manifest, options: LoadOptions) -> None:
    """What loading a version imports, the members of an ensemble included."""
    for each in (manifest, *member_manifests(folder, manifest)):
        import_libraries(each, options)


def import_libraries(manifest: Manifest, options: LoadOptions) -> None:
    """What loading a version imports, as far as that is known: a process forked later need not import it again.

    No library runs a thread for it; onnxruntime starts one that waits until there is a session, which a child lacks.
    """
    accelerated = options.accelerate != "off" and "file" in (manifest.accelerated or {})
    for name in ("onnxruntime",) if accelerated else _LIBRARIES.get(manifest.format, ()):
        try:
            import_module(name)
        except ImportError:  # loading reports it, with what to install
            return


def size_of(manifest: Manifest) -> int:
    """Bytes of all files of a version."""
    return sum(file.bytes for file in manifest.files.values())


def try_version(entry: Entry, options: LoadOptions, version_policy: str) -> None:
    """Load a version in a child process and have it predict. Raises an OperatorError that says in one line why not."""
    manifest = read_manifest(entry)

    def task(report: Report) -> None:
        open_version(entry, options, version_policy, lambda: report.step(ANSWERED))

    contain(entry.key, task, budget_of(entry.folder, manifest, options), LOADED)


def open_tried(entry: Entry, options: LoadOptions, version_policy: str) -> Model:
    """A model ready to predict, which has first been tried in a child process. Raises an OperatorError."""
    import_everything(entry.folder, read_manifest(entry), options)
    try_version(entry, options, version_policy)
    return open_version(entry, options, version_policy)
