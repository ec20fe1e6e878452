"""The order in which files of tests start, and that `make slow` finds those that run when nothing else does."""

from __future__ import annotations

from pathlib import Path

from longest import LONGEST

TESTS = Path(__file__).parent


def test_every_file_is_there_once() -> None:
    missing = [name for name in LONGEST if not (TESTS / name).is_file()]
    assert missing == []
    assert len(set(LONGEST)) == len(LONGEST)


def test_what_runs_alone_is_in_the_folder_that_make_slow_names() -> None:
    marked = [path for path in TESTS.rglob("*.py") if "pytest.mark." + "alone" in path.read_text("utf-8")]
    assert {path.parent.name for path in marked} == {"live"}
