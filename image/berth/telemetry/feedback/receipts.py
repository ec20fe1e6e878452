"""Receipts: what was predicted, when and by which model, signed, so that any pod can match a label to it weeks later.

A receipt is base64url without padding of

    version (1 byte), seconds since 1970 (4), a number of its own (8), the first 8 bytes of the model's digest,
    model, version and arm (each its length in 1 byte, then UTF-8),
    kind of the predictions (1: 0 a class's index in 2 bytes, 1 a float32), their number (1), the predictions,
    the first 16 bytes of HMAC-SHA-256 over all of it

in big-endian order. It holds no inputs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from berth.errors import InvalidReceipt, SettingsError
from berth.telemetry.reloaded_file import ReloadedFile

MOST_PREDICTIONS = 64
_VERSION = 1
_TAG_BYTES = 16
_LEAST_KEY_BYTES = 32
_HEAD = struct.Struct(">BI8s8s")
_CLASS, _VALUE = 0, 1
_MOST_TEXT = 2048
_TEXT = re.compile(r"[A-Za-z0-9_-]+")
SETTING = "BERTH_FEEDBACK_KEY_FILE"


@dataclass(frozen=True)
class Receipt:
    """What a receipt says. Each prediction is a class's index (`classes`) or a number.

    The `serial` distinguishes what was predicted twice in one second; the feedback for both counts.
    """

    made_at: int
    digest: bytes
    model: str
    version: str
    arm: str
    predictions: tuple[float, ...]
    classes: bool
    serial: bytes = bytes(8)


def parse_feedback_keys(text: str) -> tuple[bytes, ...]:
    """The secrets of a file, one a line; the first signs. Raises SettingsError naming the line, never its content."""
    keys = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if len(line.encode()) < _LEAST_KEY_BYTES:
            raise SettingsError(f"line {number} has {len(line.encode())} bytes; a secret needs {_LEAST_KEY_BYTES}")
        keys.append(line.encode())
    if not keys:
        raise SettingsError("the file holds no secret; write one of at least 32 bytes")
    return tuple(keys)


def _sign(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, hashlib.sha256)[:_TAG_BYTES]


def _pack_text(text: str) -> bytes:
    data = text.encode()[:255]
    return bytes([len(data)]) + data


class _Cursor:
    """The bytes of a receipt, from the front; struct.error past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise struct.error("too short")
        self._at += size
        return piece

    def take_text(self) -> str:
        return self.take(self.take(1)[0]).decode()

    @property
    def is_empty(self) -> bool:
        return self._at == len(self._data)


def encode_receipt(receipt: Receipt, key: bytes) -> str:
    """The receipt as its header carries it. Predictions beyond 64 are left out."""
    predictions = receipt.predictions[:MOST_PREDICTIONS]
    form = f">{len(predictions)}{'H' if receipt.classes else 'f'}"
    values = [int(value) for value in predictions] if receipt.classes else predictions
    body = b"".join(
        (
            _HEAD.pack(_VERSION, receipt.made_at, receipt.serial, receipt.digest[:8].ljust(8, b"\0")),
            *map(_pack_text, (receipt.model, receipt.version, receipt.arm)),
            bytes([_CLASS if receipt.classes else _VALUE, len(predictions)]),
            struct.pack(form, *values),
        )
    )
    return base64.urlsafe_b64encode(body + _sign(key, body)).rstrip(b"=").decode()


def _decode_body(body: bytes) -> Receipt:
    cursor = _Cursor(body)
    version, made_at, serial, digest = _HEAD.unpack(cursor.take(_HEAD.size))
    model, model_version, arm = (cursor.take_text() for _ in range(3))
    kind, count = cursor.take(2)
    size = 2 if kind == _CLASS else 4
    values = struct.unpack(f">{count}{'H' if kind == _CLASS else 'f'}", cursor.take(size * count))
    if version != _VERSION or kind not in (_CLASS, _VALUE) or not cursor.is_empty:
        raise struct.error("of another format")
    return Receipt(made_at, digest, model, model_version, arm, tuple(map(float, values)), kind == _CLASS, serial)


def decode_receipt(text: str, keys: Sequence[bytes]) -> Receipt:
    """What a receipt says, once it is known to be signed with one of `keys`. Raises InvalidReceipt."""
    fault = InvalidReceipt("the receipt was not made here, or was changed; send the X-Berth-Receipt header as it came")
    if len(text) > _MOST_TEXT or not _TEXT.fullmatch(text):
        raise fault
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise fault from None
    # The last character holds bits that say nothing: only one way of writing them is accepted.
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text or len(data) <= _TAG_BYTES:
        raise fault
    body, tag = data[:-_TAG_BYTES], data[-_TAG_BYTES:]
    if not any(hmac.compare_digest(_sign(key, body), tag) for key in keys):
        raise fault
    try:
        return _decode_body(body)
    except (struct.error, UnicodeDecodeError):
        raise fault from None


class ReceiptBook:
    """Makes and reads receipts with the secrets of one file, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._file = ReloadedFile(SETTING, "secrets", path, parse_feedback_keys)

    def make(self, receipt: Receipt) -> str:
        """The receipt, signed with the first secret."""
        return encode_receipt(receipt, self._file.content[0])

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets as of now; the first signs."""
        return self._file.content

    def read(self, text: str) -> Receipt:
        """A receipt that was signed with any of the secrets. Raises InvalidReceipt."""
        return decode_receipt(text, self._file.content)
