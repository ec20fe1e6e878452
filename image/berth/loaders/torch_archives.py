"""torch's zip archives, rewritten so that torch reads the records that were checked, and no others.

torch finds records with a zip reader of its own. Handing it a fresh archive leaves no room for a file
that means one thing to the check and another to torch.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from berth.errors import LoadError, UnsafeArtifact

_MAX_CODE_BYTES = 1 << 25
_SCRIPT_RECORDS = re.compile(
    r"data\.pkl|constants\.pkl|(data|constants)/\d+|code/[\w/]+\.py|version|byteorder|\.data/\w+"
)
# TorchScript runs inside torch's own interpreter, but these two operators open files by name.
_SCRIPT_FILE_ACCESS = re.compile(r"\b(save|from_file)\b")
# getattr(torch, "sa\x76e") would hide one of them.
_SCRIPT_HIDDEN_NAME = re.compile(r"\bgetattr\b[^)]*\\")
_SCRIPT_NAMESPACE = re.compile(r"\bops\s*\.\s*(\w+)")
_SCRIPT_NAMESPACES = frozenset({"prim", "aten", "prims", "quantized", "_quantized", "sparse", "mkldnn", "onednn"})


def _check_size(file: str, name: str, entry: zipfile.ZipInfo) -> None:
    """That unpacking stays small: torch compresses code alone."""
    if entry.compress_type == zipfile.ZIP_STORED:
        return
    if not name.startswith("code/") or entry.file_size > _MAX_CODE_BYTES:
        raise UnsafeArtifact(
            f"{file}: the record {name!r} is compressed to {entry.compress_size} bytes; torch does not"
        )


def read_records(path: Path) -> dict[str, bytes]:
    """Every record of the archive by its name below the archive's root. Raises LoadError, UnsafeArtifact."""
    records: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.partition("/")[2] or entry.filename
                if name in records:
                    raise UnsafeArtifact(f"{path.name} holds the record {name!r} twice; save it again with torch")
                _check_size(path.name, name, entry)
                records[name] = archive.read(entry)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise LoadError(f"{path.name} is not an archive that torch wrote: {error}") from error
    return records


def pack_records(records: Mapping[str, bytes]) -> io.BytesIO:
    """A new archive of `records`, as torch.jit.load and torch.export.load expect it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    packed.seek(0)
    return packed


def _check_script(name: str, code: str) -> None:
    if found := _SCRIPT_FILE_ACCESS.search(code) or _SCRIPT_HIDDEN_NAME.search(code):
        raise UnsafeArtifact(
            f"{name} says {found.group(0)!r}: TorchScript that opens files is not loaded; take it out of the model"
        )
    for namespace in _SCRIPT_NAMESPACE.findall(code):
        if namespace not in _SCRIPT_NAMESPACES:
            raise UnsafeArtifact(f"{name} calls torch.ops.{namespace}, which is not among the operators allowed")


def is_torchscript(path: Path) -> bool:
    """Whether the file is TorchScript rather than pickled Python objects, which torch.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {entry.partition("/")[2] for entry in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return False
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)


def clean_torchscript(path: Path) -> io.BytesIO:
    """The archive without what a prediction does not need, its code checked. Raises LoadError, UnsafeArtifact."""
    records = {name: content for name, content in read_records(path).items() if _SCRIPT_RECORDS.fullmatch(name)}
    if "constants.pkl" not in records:
        raise LoadError(f"{path.name} is not TorchScript (torch.save writes pickles); save it with torch.jit.save")
    for name, content in records.items():
        if name.startswith("code/"):
            _check_script(name, content.decode("utf-8", "replace"))
    return pack_records(records)
