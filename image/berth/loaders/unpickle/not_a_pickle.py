"""What a file is that should be a pickle and is none, in one line with the next step."""

from __future__ import annotations

from berth.errors import LoadError

HEAD_BYTES = 64

_LFS = "is a Git LFS pointer, not the model itself; run `git lfs pull` and try again"
_HTML = "is an HTML page, not a model: the download got a login or error page; download the file itself"
_ZIP = "is a ZIP archive, not a pickle; a torch file ends in .pt or .pt2, a skops file in .skops"
_JSON = "is JSON text, not a pickle; an XGBoost model ends in .json"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", _LFS),
    (b"<!doctype", _HTML),
    (b"<html", _HTML),
    (b"<head", _HTML),
    (b"<?xml", "is an XML file, not a pickle"),
    (b"pk\x03\x04", _ZIP),
    (b"{", _JSON),
    (b"[", _JSON),
    (b"tree\n", "is a LightGBM text model, not a pickle; name it .txt"),
    (b"tree\r\n", "is a LightGBM text model, not a pickle; name it .txt"),
    (b"\x93numpy", "is a numpy array, not a model; save the fitted estimator instead"),
    (b"\x89hdf", "is an HDF5 file, which Berth does not load; export the model as ONNX"),
    (b"par1", "is a Parquet table, not a model"),
    (b"gguf", "is a GGUF file, which Berth does not load"),
    (b"%pdf", "is a PDF document, not a model"),
    (b"\x7felf", "is a program, not a model"),
    (b"\0\0\0\0", "begins with zeros: the copy was interrupted; copy it again"),
)


def check_is_pickle(name: str, head: bytes) -> None:
    """Raise LoadError for a file whose first bytes show that it is something else than a pickle."""
    if not head:
        raise LoadError(f"{name} is empty (0 bytes); save or copy the model again")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    for magic, what in _MAGIC:
        if start.startswith(magic):
            raise LoadError(f"{name} {what}")
