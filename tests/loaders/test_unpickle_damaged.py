"""Damaged files, and files made to fill the memory, are load errors and cost little."""

from __future__ import annotations

import io
import pickle
import zlib
from pathlib import Path

import joblib
import numpy as np
import pytest

from berth.errors import BerthError, LoadError
from berth.loaders.unpickle.loading import default_allow, load_joblib, load_pickle, read_globals
from pickle_assembler import named, whole


def _bombs() -> dict[str, bytes]:
    array = pickle.dumps(np.zeros(3), 5)
    plain = pickle.dumps([1, "a", 2.5])
    shared = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(60))
    stream = io.BytesIO()
    joblib.dump(np.zeros(3), stream)
    return {
        "empty": b"",
        "garbage": b"this is not a pickle",
        "text": b'{"schema": 1}\n',
        "truncated": plain[:-3],
        "truncated-array": array[:-20],
        "truncated-joblib": stream.getvalue()[:-10],
        "huge-string": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x00abc.",
        "huge-bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00abc.",
        "huge-bytearray": b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00abc.",
        "huge-frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x00.",
        "huge-joblib-shape": stream.getvalue().replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85", 1),
        "shared-tuple-as-key": b"\x80\x04}K\x01" + shared + b"K\x01s.",
        "deep-tuple-as-key": b"\x80\x04}K\x01" + b"\x85" * 100_000 + b"K\x01s.",
        "deep-list": b"\x80\x04" + b"]" * 100_000 + b"a" * 200_000 + b".",
        "copies": b"\x80\x02]("
        + b"K\x01" * 1000
        + b"eq\x00"
        + (named("builtins", "set") + b"h\x00\x85R0") * 1000
        + b"N.",
        "range": whole(named("builtins", "set") + named("builtins", "range") + b"J\xff\xff\xff\x7f\x85R\x85R"),
        "bytearray": whole(named("builtins", "bytearray") + b"J\xff\xff\xff\x7f\x85R"),
        "stack-underflow": b"\x80\x04aaaa.",
        "bad-opcode": b"\x80\x04\xff.",
        "bad-protocol": b"\x80\x63N.",
        "no-memo": b"\x80\x04h\x07.",
        "unhashable": b"\x80\x04}]K\x01s.",
        "half-utf8": b"\x80\x04\x8c\x02\xc3(.",
        "buffers": b"\x80\x05\x97.",
        "trailing": plain + b"x",
        "two": plain + plain,
        "bad-zlib": b"\x78\x9c" + b"\x00" * 20,
        "bad-gzip": b"\x1f\x8b" + b"\x00" * 20,
        "bad-bz2": b"BZh9" + b"\x00" * 20,
        "bad-xz": b"\xfd7zXZ" + b"\x00" * 20,
        "lz4": b"\x04\x22\x4d\x18" + b"\x00" * 20,
    }


@pytest.mark.parametrize("name", _bombs())
def test_damaged_file_is_a_load_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(_bombs()[name])
    with pytest.raises(LoadError):
        load_pickle(path, default_allow())
    try:
        read_globals(path, default_allow())
    except BerthError as error:
        assert isinstance(error, LoadError)  # noqa: PT017


def test_packed_bomb_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(np.zeros(40_000_000), path, compress=("xz", 1))
    assert path.stat().st_size < 200_000
    with pytest.raises(LoadError, match="unpacks to more than"):
        load_joblib(path, default_allow())
    with pytest.raises(LoadError, match="unpacks to more than"):
        read_globals(path, default_allow())


@pytest.mark.parametrize("name", ["missing.pkl", "folder"])
def test_unreadable_file_is_a_load_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(LoadError, match=name):
        load_pickle(tmp_path / name, default_allow())


# Files that are something else than their ending says, and the words that say what

FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "html": (b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>", "is an HTML page"),
    "html-plain": (b"<html lang=en>", "is an HTML page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is an XML file"),
    "json": (b'{"learner": {}}', "is JSON text"),
    "zip": (b"PK\x03\x04\x14\x00\x00\x00", "is a ZIP archive"),
    "lightgbm": (b"tree\nversion=v4\n", "is a LightGBM text model"),
    "lightgbm-crlf": (b"tree\r\nversion=v4\r\n", "is a LightGBM text model"),
    "numpy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "is a numpy array"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    "zeros": (b"\0" * 100, "begins with zeros"),
    "prose": (b"this is not a pickle", "is not a whole pickle"),
    "truncated": (pickle.dumps({"a": list(range(1000))})[:-100], "truncated"),
    "truncated-text": (pickle.dumps(["a" * 5000])[:3000], "truncated"),
    "truncated-packed": (zlib.compress(pickle.dumps(list(range(5000))))[:-300], "truncated"),
    "crlf": (pickle.dumps(list(range(600)), 2).replace(b"\n", b"\r\n"), "damaged|cannot be loaded"),
}


@pytest.mark.parametrize("ending", [".pkl", ".joblib"])
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_file_gets_one_clear_line(name: str, ending: str, tmp_path: Path) -> None:
    data, reason = FOREIGN[name]
    path = tmp_path / f"model{ending}"
    path.write_bytes(data)
    for read in (load_pickle, read_globals):
        with pytest.raises(LoadError, match=reason) as error:
            read(path, default_allow())
        assert path.name in error.value.message
        assert error.value.message.isprintable()
