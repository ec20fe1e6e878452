"""What a file is, by its first bytes: for names whose ending says nothing, or means several formats."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from berth.errors import LoadError

_HEAD_BYTES = 512
# gzip, bzip2, xz, lzma, zlib (three levels): joblib's compressed files.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# What torch.save wrote before 1.6: a pickle of this number comes first.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ONNX = re.compile(rb"\x08[\x01-\x20](?:[\x12\x1a\x22\x2a\x32\x3a\x42]|\x28)")
_XGBOOST = re.compile(
    rb'\{\s*"(?:learner|version|Config)"|\{L\x00\x00\x00\x00\x00\x00\x00.(?:learner|version|Config)', re.S
)
_PICKLE = re.compile(rb"\x80[\x00-\x05]|c[a-z_]\w*(?:\.\w+)*\n\w+\n|\(dp|\(lp|ccopy_reg")
_SAFETENSORS = re.compile(rb'.{4}\x00{4}\{"', re.S)

# What Berth has no reader for, and the step that works.
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n", "a Keras or HDF5 file; convert it with `python -m tf2onnx.convert --keras FILE --output m.onnx`"),
    (b"binf", 'an XGBoost model of the old binary format; load it there and save it with save_model("m.ubj")'),
    (b"bs64", 'an XGBoost model of the old binary format; load it there and save it with save_model("m.ubj")'),
    (_OLD_TORCH, "what torch.save wrote before 1.6; load it there and save it with torch.jit.save or as ONNX"),
    (b"PAR1", "a Parquet file, which holds data and no model"),
)


def _in_archive(path: Path) -> str | None:
    """The format of a zip archive, by the names in it. Raises LoadError for those that are not supported."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] or name for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return None
    if "schema.json" in names:
        return "skops"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if "archive_format" in names or any(name.endswith("exported_program.json") for name in names):
        return "torch-export"
    if "data.pkl" in names:
        raise LoadError(
            f"{path.name} is a pickle of Python objects (torch.save); "
            "save it with torch.jit.save, torch.export.save or as safetensors"
        )
    if "config.json" in names and "model.weights.h5" in names:
        raise LoadError(f"{path.name} is a Keras model; export it there with model.export('m.onnx', format='onnx')")
    return None


def _refuse_foreign(path: Path, head: bytes) -> None:
    for start, what in _FOREIGN:
        if head.startswith(start):
            raise LoadError(f"{path.name} is {what}")
    if b"<PMML" in head:
        raise LoadError(f"{path.name} is a PMML document, which Berth does not read; export the model as ONNX instead")


_CONTENTS: tuple[tuple[str, Callable[[bytes], object]], ...] = (
    ("joblib", lambda head: head.startswith(_COMPRESSED) or _PICKLE.match(head)),
    ("lightgbm", lambda head: re.match(rb"tree\r?\n", head)),
    ("catboost", lambda head: head.startswith(b"CBM1")),
    ("xgboost", _XGBOOST.match),
    ("safetensors", _SAFETENSORS.match),
    ("onnx", _ONNX.match),
)


def recognise_content(path: Path) -> str | None:
    """The format that a file's first bytes mean; None where they mean none. Raises LoadError, with a way out."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return _in_archive(path)
    _refuse_foreign(path, head)
    return next((name for name, is_it in _CONTENTS if is_it(head)), None)


# A tensor's `external_data` entry in an ONNX file: the key, and a value of up to 127 bytes.
_LOCATION = re.compile(rb"\x0a\x08location\x12(?P<size>[\x01-\x7f])(?P<name>.{1,127})", re.S)


def external_files(path: Path) -> list[str]:
    """The files beside an ONNX model in which it keeps its weights, as it names them; those alone that are there."""
    names = {
        found["name"][: found["size"][0]].decode("utf-8", "replace") for found in _LOCATION.finditer(path.read_bytes())
    }
    inside = [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return sorted(name for name in inside if (path.parent / name).is_file())
