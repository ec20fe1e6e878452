"""Models whose code does to its process what a damaged or hostile file can make a library do."""

from __future__ import annotations

from pathlib import Path

from berth.models.manifest import MANIFEST, Manifest, digest_file, encode_manifest
from berth.tensors.arrays import TensorSpec

_LOAD = "import os, signal, sys\n\ndef load(directory):\n    {}\n"
_PREDICT = "import os, signal, sys\n\ndef load(directory):\n    def predict(inputs):\n        {}\n    return predict\n"

# How each is reported, with BERTH_LOAD_SECONDS and BERTH_LOAD_MEMORY_BYTES as in LIMITS.
CRASHING = {
    "segv": (_LOAD.format("os.kill(os.getpid(), signal.SIGSEGV)"), "crashed with SIGSEGV while it was loaded"),
    "abort": (_LOAD.format("os.abort()"), "crashed with SIGABRT while it was loaded"),
    "exit-3": (_LOAD.format("os._exit(3)"), "ended the process with exit code 3 while it was loaded"),
    "exit-0": (_LOAD.format("os._exit(0)"), "ended the process with exit code 0 while it was loaded"),
    "endless": (_LOAD.format("while True: pass"), "did not end within 2 s while it was loaded"),
    "hungry": (_LOAD.format("bytearray(1 << 31)"), "memory"),
    "first-row": (_PREDICT.format("os.kill(os.getpid(), signal.SIGSEGV)"), "crashed with SIGSEGV while it"),
    "system-exit": (_PREDICT.format("sys.exit(3)"), "the model raised SystemExit: 3"),
    "interrupt": (_LOAD.format("raise KeyboardInterrupt('no\\nmore')"), "the model raised KeyboardInterrupt: no more"),
}
LIMITS = {"allow_code": "true", "load_seconds": "2", "load_memory_bytes": str(1 << 30)}


def second_time(marker: Path, deed: str) -> str:
    """A model that is harmless in its trial, and does `deed` whenever it is loaded again."""
    return (
        "import os, signal, pathlib\n\ndef load(directory):\n"
        f"    marker = pathlib.Path({str(marker)!r})\n"
        f"    if marker.exists():\n        marker.with_name(f'tried-{{os.getpid()}}').touch()\n        {deed}\n"
        "    marker.touch()\n    return lambda inputs: {'y': inputs['x']}\n"
    )


def write_folder(folder: Path, code: str) -> Path:
    """A folder with a model.py, as somebody hands it to `berth add`."""
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code, "utf-8")
    return folder


def put(store: Path, name: str, code: str) -> None:
    """A version in the store whose digests are right, without ever loading it."""
    folder = write_folder(store / name / "1", code)
    specs = [TensorSpec(word, "FP64", (-1, 1)) for word in ("x", "y")]
    files = {"model.py": digest_file(folder / "model.py")}
    manifest = Manifest(name, "1", "python", "2026-01-01T00:00:00.000Z", files, inputs=(specs[0],), outputs=(specs[1],))
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
