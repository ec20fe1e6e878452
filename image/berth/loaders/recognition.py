"""What a model file really is, by its first bytes, whatever its name says.

A library that is handed something else raises an error that explains nothing, or ends the process. `check_is` gives
one clear line before any library sees the file; `describe_file` is the pure rule behind it.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from berth.errors import LoadError

HEAD_BYTES = 4096


class Kind(NamedTuple):
    """What a file is: a short name, and words for a message."""

    name: str
    words: str


_EMPTY = Kind("empty", "empty")
_LFS = Kind("git-lfs", "a git-lfs pointer, not the model itself; run `git lfs pull` where it was checked out")
_HTML = Kind("html", "an HTML page, such as a login or an error page; check the address that it was downloaded from")
_XML = Kind("xml", "XML")
_PMML = Kind("pmml", "PMML, which Berth does not serve; export the model as ONNX")
_UNKNOWN = Kind("unknown", "of no kind that Berth knows")
_TEXT = Kind("text", "plain text")

# First bytes, and what they mean.
_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"PK\x03\x04", Kind("zip", "a zip archive")),
    (b"\x89HDF\r\n\x1a\n", Kind("hdf5", "HDF5, as Keras writes it, which Berth does not serve; export it as ONNX")),
    (b"CBM1", Kind("catboost", "a CatBoost model")),
    (b"\x1f\x8b", Kind("compressed", "compressed with gzip")),
    (b"BZh", Kind("compressed", "compressed with bzip2")),
    (b"\xfd7zXZ\x00", Kind("compressed", "compressed with xz")),
    (b"\x04\x22\x4d\x18", Kind("compressed", "compressed with lz4")),
    (b"\x28\xb5\x2f\xfd", Kind("zstd", "compressed with zstd; unpack it first")),
    (b"ZF", Kind("compressed", "compressed by an old joblib")),
    (b"\x7fELF", Kind("program", "a program")),
    (b"MZ", Kind("program", "a program")),
    (b"%PDF", Kind("pdf", "a PDF document")),
    (b"PAR1", Kind("parquet", "a parquet table")),
    (b"\x93NUMPY", Kind("npy", "a numpy array; train a model first")),
    (b"binf", Kind("xgboost-binary", "an XGBoost model of the old binary format; save it as .json or .ubj")),
)
_PICKLE = Kind("pickle", "a pickle")
_JSON = Kind("json", "JSON")
_UBJSON = Kind("ubjson", "UBJSON, as XGBoost writes it")
_LIGHTGBM = Kind("lightgbm", "a LightGBM model")
_SAFETENSORS = Kind("safetensors", "safetensors")
_ONNX = Kind("onnx", "ONNX")
# A pickle of protocol 0 or 1 begins with an opcode that makes a container, a text or a global.
_OLD_PICKLE = re.compile(rb"(?:\(|\]|\}|c[a-zA-Z_][\w.]*\n|I\d+\n|[VSF][^\n]*\n|\)|N|K)")
_HTML_TEXT = re.compile(rb"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)

# What each format may be. onnxruntime reads protobuf, which has no magic: its first fields identify it.
_EXPECTED: dict[str, tuple[str, ...]] = {
    "joblib": ("pickle", "compressed"),
    "pickle": ("pickle", "compressed"),
    "skops": ("zip",),
    "onnx": ("onnx",),
    "torchscript": ("zip",),
    "torch-export": ("zip",),
    "safetensors": ("safetensors",),
    "xgboost": ("json", "ubjson"),
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
}
_WANTED = {
    "joblib": "a joblib or pickle file",
    "pickle": "a pickle or joblib file",
    "skops": "a skops file",
    "onnx": "a model in ONNX",
    "torchscript": "TorchScript that torch.jit.save wrote",
    "torch-export": "an exported program that torch.export.save wrote",
    "safetensors": "a safetensors file",
    "xgboost": "an XGBoost model in JSON or UBJSON",
    "lightgbm": "a LightGBM model in text",
    "catboost": "a CatBoost model in its own format (.cbm)",
}


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= size - 8


def _is_onnx(head: bytes) -> bool:
    """A protobuf message that begins with a field of ModelProto (1 to 8, 14, 20 or 25) of the right wire type."""
    whole, bytes_ = 0, 2
    fields = {1: whole, 2: bytes_, 3: bytes_, 4: bytes_, 5: whole, 6: bytes_, 7: bytes_, 8: bytes_, 14: bytes_}
    return len(head) > 1 and fields.get(head[0] >> 3) == head[0] & 7 and head[0] < 0x80


def _text_kind(head: bytes) -> Kind | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return _LFS
    if _HTML_TEXT.match(text):
        return _HTML
    if text.startswith((b"<?xml", b"<PMML")):
        return _PMML if b"<PMML" in text else _XML
    if re.match(rb"tree\r?\n", text):
        return _LIGHTGBM
    if text[:1] == b"{" and re.match(rb'\{\s*(?:"|\})', text):
        return _JSON
    return None


def describe_file(head: bytes, size: int) -> Kind:
    """What a file of `size` bytes is that begins with `head`."""
    if not size:
        return _EMPTY
    if (text := _text_kind(head)) is not None:
        return text
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
        return _PICKLE
    if head[:1] == b"x" and len(head) > 1 and head[1] in (0x01, 0x5E, 0x9C, 0xDA):
        return Kind("compressed", "compressed with zlib")
    if head[:3] == b"]\x00\x00":
        return Kind("compressed", "compressed with lzma")
    if head[:1] == b"{" and head[1:2] in b"iUIlL" and len(head) > 1:
        return _UBJSON
    if _is_safetensors(head, size):
        return _SAFETENSORS
    if _OLD_PICKLE.match(head):
        return _PICKLE
    if _is_onnx(head):
        return _ONNX
    if not head.strip(b"\x00"):
        return Kind("zeros", "nothing but zero bytes, as an interrupted copy leaves it")
    return _TEXT if head.isascii() and head.replace(b"\n", b"").replace(b"\r", b"").isascii() else _UNKNOWN


def check_is(path: Path, format_: str) -> Kind:
    """What the file is. Raises LoadError, in one line, unless that is what the format wants."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise LoadError(f"{path.name} cannot be read: {error.strerror}") from error
    kind = describe_file(head, size)
    expected = _EXPECTED[format_]
    # A pickle of protocol 0 may begin with any letter; the restricted unpickler says what is wrong with it.
    if kind.name == "zip" and kind.name in expected and not zipfile.is_zipfile(path):
        raise LoadError(f"{path.name} is cut short: the end of its zip archive is missing; copy it again")
    if kind.name in expected or ("pickle" in expected and kind.name in ("onnx", "unknown", "text")):
        return kind
    raise LoadError(f"{path.name} is not {_WANTED[format_]}: it is {kind.words}")
