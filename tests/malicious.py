"""Files that run something when a plain unpickler reads them: MALICIOUS maps a name to the function that writes one.

Each payload, if it runs, makes the file `marker(path)`; it does nothing else. None is ever loaded by anything but
Berth, except in the child process of one test that sees that these payloads are real.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np

from malicious_calls import CALLS, DOTTED, dotted_call, one_call
from malicious_models import MODELS
from malicious_states import STATES, body, extension
from pickle_assembler import Builder, Payload, command, marker, named, stacked, system, text, whole


def _nested(path: Path) -> None:
    joblib.dump({"model": 1, "classes": np.array([Payload(path)], dtype=object)}, path)


def _nested_old(path: Path) -> None:
    """As joblib before 1.2 wrote it: no padding; its reader used a second, plain unpickler for the objects."""
    from joblib.numpy_pickle import NumpyArrayWrapper

    wrapper = NumpyArrayWrapper(np.ndarray, (1,), "C", np.dtype("O"), allow_mmap=False)
    del wrapper.numpy_array_alignment_bytes
    inner = pickle.dumps(np.array([Payload(path)], dtype=object), 2)
    path.write_bytes(pickle.dumps(wrapper, 3)[:-1] + inner + b".")


def _nested_after_numbers(path: Path) -> None:
    """Behind raw bytes that look like opcodes, where a walk over opcodes loses its way."""
    noise = np.frombuffer(b"." * 64 + b"cos\nsystem\n" * 5, dtype=np.uint8)
    joblib.dump([noise, np.array([[Payload(path)]], dtype=object)], path)


def _nested_twice(path: Path) -> None:
    inner = np.empty(1, dtype=object)
    inner[0] = np.array([Payload(path), 1], dtype=object)
    joblib.dump([inner], path)


def _joblib_outside(path: Path) -> None:
    joblib.dump([np.zeros(3), Payload(path), np.ones(3)], path)


def _old_wrapper(path: Path) -> bytes:
    """joblib 0.9 read the array from any file that the wrapper names, with allow_pickle."""
    new = named("joblib.numpy_pickle", "NDArrayWrapper") + b")\x81"
    return (
        new + b"}(" + text("filename") + text(str(marker(path))) + text("subclass") + named("numpy", "ndarray") + b"ub"
    )


def _mapped(path: Path) -> None:
    """A wrapper whose subclass is numpy.memmap, followed by a payload."""
    joblib.dump([np.zeros(4), Payload(path)], path, protocol=2)


def _packed(pack: Callable[[bytes], bytes]) -> Builder:
    def build(path: Path) -> None:
        _nested(path)
        path.write_bytes(pack(path.read_bytes()))

    return build


# Shapes of files


def _after_stop(path: Path) -> None:
    path.write_bytes(pickle.dumps([1, 2]) + whole(system(path)))


def _torch_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        # Without a date of its own it gets the clock's, and at some seconds of the day that is another pickle.
        archive.writestr(zipfile.ZipInfo("model/data.pkl"), whole(system(path)))


def _zfile(path: Path) -> None:
    data = whole(system(path))
    path.write_bytes(b"ZF" + f"{len(data):#x}".ljust(19).encode() + zlib.compress(data))


MALICIOUS: dict[str, Builder] = {
    **{f"call-{label}": one_call(*entry) for label, entry in CALLS.items()},
    **{label: dotted_call(*entry) for label, entry in DOTTED.items()},
    "reduce-protocol-0": lambda path: path.write_bytes(pickle.dumps(Payload(path), 0)),
    "reduce-protocol-2": lambda path: path.write_bytes(pickle.dumps(Payload(path), 2)),
    "reduce-protocol-5": lambda path: path.write_bytes(pickle.dumps(Payload(path), 5)),
    "discarded": body(lambda path: system(path) + b"0N"),
    "inside-estimator": body(
        lambda path: stacked("sklearn.svm._classes", "SVC") + b")\x81}" + text("C") + system(path) + b"sb"
    ),
    "as-key": body(lambda path: b"}" + system(path) + b"K\x01s"),
    "inst": body(lambda path: b"(" + text(command(path)) + b"iposix\nsystem\n", 2),
    "obj": body(lambda path: b"(" + named("posix", "system") + text(command(path)) + b"o", 2),
    "inst-allowed": body(lambda path: b"(isklearn.svm._classes\nSVC\n", 2),
    "newobj": body(lambda path: named("subprocess", "Popen") + b"(" + text(command(path)) + b"t\x81"),
    "newobj-ex": body(lambda path: named("subprocess", "Popen") + b"(" + text(command(path)) + b"t}\x92"),
    "newobj-memory": body(lambda path: named("numpy", "ndarray") + b"(\x8a\x06\x00\x00\x00\x00\x00\x10t\x81"),
    "ext1": extension(b"\x82\xf5"),
    "ext2": extension(b"\x83\xf5\x00"),
    "ext4": extension(b"\x84\xf5\x00\x00\x00"),
    "persid": body(lambda path: b"Pposix.system\n", 0),
    "binpersid": body(lambda path: text("posix.system") + b"Q"),
    **STATES,
    "joblib-nested": _nested,
    "joblib-nested-old": _nested_old,
    "joblib-nested-after-numbers": _nested_after_numbers,
    "joblib-nested-twice": _nested_twice,
    "joblib-outside": _joblib_outside,
    "joblib-old-wrapper": body(_old_wrapper, 2),
    "joblib-mapped": _mapped,
    "joblib-zlib": _packed(zlib.compress),
    "joblib-gzip": _packed(lambda data: gzip.compress(data, mtime=0)),
    "joblib-bz2": _packed(bz2.compress),
    "joblib-xz": _packed(lzma.compress),
    "joblib-lzma": _packed(lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE)),
    "after-stop": _after_stop,
    "torch-zip": _torch_zip,
    "joblib-zfile": _zfile,
    **MODELS,
}

# Those that a plain reader surely runs: what shows that the payloads are real.
REAL = (
    "call-os-system", "call-builtins-exec", "call-builtins-eval", "call-python2-builtin-eval", "call-builtins-open",
    "call-io-open", "call-numpy-f2py", "call-numpy-runstring", "reduce-protocol-0", "reduce-protocol-5", "discarded",
    "inside-estimator", "inst", "obj", "ext1", "ext2", "ext4", "memo", "memo-overwritten", "setstate-attribute",
    "append-attribute", "partial-of-system", "generator-maker", "stats-exec", "joblib-nested", "joblib-nested-old",
    "joblib-nested-after-numbers", "joblib-nested-twice", "joblib-outside", "joblib-zlib", "joblib-gzip", "joblib-bz2",
    "joblib-xz", "joblib-lzma", "joblib-zfile",
)  # fmt: skip
