"""What a file really is: one clear line for a file that is not what its name says."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import LoadError
from berth.loaders.recognition import HEAD_BYTES, check_is, describe_file

_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model/data.pkl", b"x" * 200)
    return stream.getvalue()


def _joblib(**options: Any) -> bytes:
    stream = io.BytesIO()
    joblib.dump({"a": np.arange(30)}, stream, **options)
    return stream.getvalue()


def _safetensors() -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(head).to_bytes(8, "little") + head + b"\0\0\0\0"


CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "lfs": (_LFS, "git-lfs"),
    "html": (b"\n<!DOCTYPE html><html><title>404</title></html>", "html"),
    "html-bare": (b"<HTML><body>Sign in</body>", "html"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "xml"),
    "pmml": (b'<?xml version="1.0"?>\n<PMML version="4.4"></PMML>', "pmml"),
    "zip": (_zip(), "zip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "hdf5"),
    "catboost": (b"CBM1" + bytes(100), "catboost"),
    "gzip": (gzip.compress(b"x"), "compressed"),
    "zlib-joblib": (_joblib(compress=3), "compressed"),
    "lzma-joblib": (_joblib(compress=("lzma", 3)), "compressed"),
    "xz-joblib": (_joblib(compress=("xz", 3)), "compressed"),
    "bz2-joblib": (_joblib(compress=("bz2", 3)), "compressed"),
    "joblib": (_joblib(), "pickle"),
    **{f"pickle-{protocol}": (pickle.dumps({"a": [1, "b"]}, protocol), "pickle") for protocol in range(6)},
    "json": (b'{"learner": {}}', "json"),
    "ubjson": (b"{L\0\0\0\0\0\0\0\x07learner{}}", "ubjson"),
    "lightgbm": (b"tree\nversion=v4\n", "lightgbm"),
    "lightgbm-crlf": (b"tree\r\nversion=v4\r\n", "lightgbm"),
    "safetensors": (_safetensors(), "safetensors"),
    "onnx": (b"\x08\x0a\x12\x08skl2onnx\x1a\x06" + bytes(50), "onnx"),
    "zeros": (bytes(5000), "zeros"),
    "csv": (b"sepal,petal\n1.0,2.0\n", "text"),
    "parquet": (b"PAR1" + bytes(30), "parquet"),
    "npy": (b"\x93NUMPY\x01\x00", "npy"),
    "program": (b"\x7fELF" + bytes(30), "program"),
}
_GOOD = {
    "joblib": {"joblib", "zlib-joblib", "lzma-joblib", "xz-joblib", "bz2-joblib", "gzip"},
    "skops": {"zip"},
    "torchscript": {"zip"},
    "torch-export": {"zip"},
    "safetensors": {"safetensors"},
    "xgboost": {"json", "ubjson"},
    "lightgbm": {"lightgbm", "lightgbm-crlf"},
    "onnx": {"onnx"},
}
# The restricted unpickler itself says what is wrong with these: protocol 0 has no mark to know it by.
_MAYBE_PICKLE = {"onnx", "csv", *(f"pickle-{protocol}" for protocol in range(6))}


@pytest.mark.parametrize("name", CONTENTS)
def test_each_content_is_recognised(name: str) -> None:
    data, kind = CONTENTS[name]
    assert describe_file(data[:HEAD_BYTES], len(data)).name == kind


@pytest.mark.parametrize("format_", _GOOD)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_format_accepts_its_own_files_only(name: str, format_: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENTS[name][0])
    if name in _GOOD[format_] or (format_ == "joblib" and name in _GOOD["joblib"] | _MAYBE_PICKLE):
        check_is(path, format_)
        return
    with pytest.raises(LoadError, match=r"^model\.bin is not .+: it is ") as refusal:
        check_is(path, format_)
    assert "\n" not in refusal.value.message


def test_a_zip_that_was_cut_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(_zip()[:-30])
    with pytest.raises(LoadError, match="cut short"):
        check_is(path, "torchscript")


@given(st.binary(max_size=64), st.integers(0, 1 << 50))
def test_any_head_is_described(head: bytes, size: int) -> None:
    kind = describe_file(head, size)
    assert kind.words
    assert "\n" not in kind.words
