"""The order in which files of tests start."""

from __future__ import annotations

from pathlib import Path

from longest import LONGEST


def test_every_file_is_there_once() -> None:
    missing = [name for name in LONGEST if not (Path(__file__).parent / name).is_file()]
    assert missing == []
    assert len(set(LONGEST)) == len(LONGEST)
