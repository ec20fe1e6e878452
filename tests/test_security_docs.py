"""docs/security.md: every promise names a test that exists, and the README leads there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from berth.loaders.formats import FORMATS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")


@cache
def functions_in(file: str) -> frozenset[str]:
    """The test functions of a file."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_promise_names_a_test_that_exists() -> None:
    table = PAGE.split("| promise | test |")[1].splitlines()[2:]
    named = [re.fullmatch(r"\| .+ \| `(tests/[\w/]+\.py)::(test_\w+)` \|", line) for line in table if line]
    assert len(named) > 20
    assert all(named), "every line is a promise and one test"
    missing = [found[0] for found in named if found and found[2] not in functions_in(found[1])]
    assert missing == []


def test_every_format_has_its_line() -> None:
    lines = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert set(FORMATS) <= {name for line in lines for name in re.findall(r"`([\w-]+)`", line)}


def test_the_readme_leads_to_it() -> None:
    assert "(docs/security.md)" in (ROOT / "README.md").read_text("utf-8")
