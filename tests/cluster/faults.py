"""The table of faults: what each promises, and what the last run measured, in docs/reliability.md and REPORT.md."""

from __future__ import annotations

import fcntl
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REPORT, PAGE = Path(__file__).parent / "REPORT.md", ROOT / "docs" / "reliability.md"
_HEAD = "| # | fault | promise | sent | failed | recovered after |\n|---|---|---|---|---|---|\n"
_LINE = re.compile(r"^\| (\d+[a-z]?) \|.*$", re.MULTILINE)
# The rows of one run, by their number.
MEASURED: dict[str, str] = {}


@dataclass(frozen=True)
class Fault:
    """One row: its number in the table, what is broken, and what is promised then."""

    number: str
    what: str
    promise: str

    def record(self, counts: dict[str, Any], seconds: float | None = None) -> None:
        """Note what the load saw, and how long the recovery took."""
        took = "–" if seconds is None else f"{seconds:.0f} s"
        counted = f"{counts['sent']:,} | {counts['failed']}" if counts else "– | –"
        MEASURED[self.number] = f"| {self.number} | {self.what} | {self.promise} | {counted} | {took} |"


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Until now."""
        return time.monotonic() - self._began


def _order(number: str) -> tuple[int, str]:
    return int(re.sub(r"\D", "", number)), number


def _merge(path: Path) -> str:
    """The table of a file, with the rows of this run in the place of older ones."""
    rows = {found[1]: found[0] for found in _LINE.finditer(path.read_text("utf-8"))} if path.exists() else {}
    rows |= MEASURED
    return _HEAD + "".join(f"{rows[number]}\n" for number in sorted(rows, key=_order))


def write_report(version: str) -> None:
    """Put what this run measured into the report and the page. `version` is the cluster's."""
    if not MEASURED:
        return
    with PAGE.open() as page:  # groups that run side by side write one after the other
        fcntl.flock(page, fcntl.LOCK_EX)
        _write(version)


def _write(version: str) -> None:
    told = f"Written by the tests of `tests/cluster/test_faults_*.py`; the last run was on Kubernetes {version}.\n"
    REPORT.write_text(f"# What faults cost, as measured\n\n{told}\n{_merge(REPORT)}", "utf-8")
    before, mark, rest = PAGE.read_text("utf-8").partition("<!-- faults: generated -->\n")
    _, end, after = rest.partition("<!-- faults: end -->")
    if mark and end:
        PAGE.write_text(f"{before}{mark}{_merge(PAGE)}{end}{after}", "utf-8")
