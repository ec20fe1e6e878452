"""Receipts: what goes in comes out, at any pod that has the secret; what was changed by one bit is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import InvalidReceipt, SettingsError
from berth.telemetry.feedback.receipts import (
    MOST_PREDICTIONS,
    Receipt,
    ReceiptBook,
    decode_receipt,
    encode_receipt,
    parse_feedback_keys,
)

KEY, OTHER = b"k" * 32, b"o" * 40
WORDS = st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True)
CLASSES = st.lists(st.integers(0, 65535), max_size=MOST_PREDICTIONS).map(lambda values: (values, True))
VALUES = st.lists(st.floats(width=32, allow_nan=False), max_size=MOST_PREDICTIONS).map(lambda values: (values, False))


def receipt(predictions: list[float], classes: bool, model: str = "iris", arm: str = "") -> Receipt:
    return Receipt(1_800_000_000, b"12345678", model, "3", arm, tuple(map(float, predictions)), classes, b"serialno")


@given(CLASSES | VALUES, WORDS, st.just("") | WORDS)
def test_what_goes_in_comes_out(predicted: tuple[list[float], bool], model: str, arm: str) -> None:
    made = receipt(*predicted, model=model, arm=arm)
    text = encode_receipt(made, KEY)
    assert decode_receipt(text, [OTHER, KEY]) == made
    with pytest.raises(InvalidReceipt):
        decode_receipt(text, [OTHER])


def test_a_changed_receipt_is_refused() -> None:
    rng = np.random.default_rng(0)
    text = encode_receipt(receipt([1, 2, 0], True), KEY)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    refused = 0
    for _ in range(1000):
        at = int(rng.integers(len(text)))
        changed = text[:at] + letters[int(rng.integers(64))] + text[at + 1 :]
        if changed != text:
            refused += 1
            with pytest.raises(InvalidReceipt, match="was not made here"):
                decode_receipt(changed, [KEY])
    assert refused > 900


@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidReceipt):
        decode_receipt(text, [KEY])


def test_only_the_first_64_predictions_are_kept() -> None:
    made = decode_receipt(encode_receipt(receipt([1.0] * 100, True), KEY), [KEY])
    assert len(made.predictions) == MOST_PREDICTIONS


def test_secrets_rotate(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY.decode()}\n")
    book = ReceiptBook(file)
    old = book.make(receipt([1], True))
    file.write_text(f"# the new one\n{OTHER.decode()}\n{KEY.decode()}\n")
    assert book.read(old).predictions == (1.0,)
    assert decode_receipt(book.make(receipt([1], True)), [OTHER])
    file.write_text("short")  # a bad edit: what was read before stays in force
    os.utime(file, (1, 1))
    assert book.read(old).predictions == (1.0,)
    file.write_text(f"{OTHER.decode()}\n")
    with pytest.raises(InvalidReceipt):
        book.read(old)


def test_a_file_without_a_good_secret_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("short\n")
    with pytest.raises(SettingsError, match=r"BERTH_FEEDBACK_KEY_FILE: cannot read the secrets: line 1 has 5 bytes"):
        ReceiptBook(tmp_path / "keys")
    with pytest.raises(SettingsError, match="holds no secret"):
        parse_feedback_keys("\n# nothing\n")
    with pytest.raises(SettingsError, match="No such file"):
        ReceiptBook(tmp_path / "none")
