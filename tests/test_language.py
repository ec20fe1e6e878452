"""ci/check-language: pages and code use the glossary's words, and pages, links and the index agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])
PLANTED = {
    "The server tells the reason.": "'tells': write reports, says",
    "Aimed CPU use.": "'Aimed': write target",
    "It downloads the rest\nand goes on where it was cut.": "2: 'goes on where': write resumes",
}
UNCHECKED = [
    "`what it tells`",
    "```\nwhat it tells\n```",
    "<!-- errors: generated -->\nwhat it tells\n<!-- errors: end -->",
    "A target CPU use; at least one answer-like file.",
]


def check(*files: Path) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, str(ROOT / "ci" / "check-language"), *map(str, files)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_all_texts_use_the_glossary() -> None:
    done = check()
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[0]) >= len(PAGES)


@pytest.mark.parametrize("text", PLANTED)
def test_a_word_to_change_is_found(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    done = check(page)
    assert done.returncode == 1
    assert done.stdout.rstrip().endswith(PLANTED[text])
    assert "page.md:" in done.stdout


@pytest.mark.parametrize("text", UNCHECKED)
def test_code_and_generated_regions_are_not_checked(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    assert check(page).returncode == 0


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ('raise ValueError(f"{key!r} is not read here; send JSON")', 1),
        ('def load():\n    """From a file to a model.\n\n    The model is asked once.\n    """', 4),
        ("x = 1\ny = 2  # what the file tells", 2),
        ('text = (\n    "the rows are "\n    "taken"\n)', 2),
    ],
)
def test_a_word_to_change_is_found_in_code(tmp_path: Path, code: str, line: int) -> None:
    file = tmp_path / "module.py"
    file.write_text(code, "utf-8")
    done = check(file)
    assert done.returncode == 1
    assert f"module.py:{line}: " in done.stdout


@pytest.mark.parametrize("code", ['told = {"answer": asked}', 'message = f"{told} {tells!r} of {longest}"'])
def test_names_are_not_checked(tmp_path: Path, code: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(code, "utf-8")
    assert check(file).returncode == 0


def heading_anchors(text: str) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    file = ROOT / page
    for name, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", file.read_text("utf-8")):
        target = file.parent / name if name else file
        assert target.exists(), name
        assert not anchor or anchor in heading_anchors(target.read_text("utf-8")), f"{name}#{anchor}"


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / name).resolve() for name in re.findall(r"\]\(([^)#]+)\)", index.read_text("utf-8"))}
    assert {ROOT / page for page in PAGES} - linked == {index}
    assert "(docs/README.md)" in (ROOT / "README.md").read_text("utf-8")
