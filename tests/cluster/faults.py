"""The table of faults: what each promises, and what was measured, in REPORT.md and, copied, in docs/reliability.md.

`ci/test-cluster DIR faults` removes the report first, so that all of its rows are of one run; a test that runs by
itself puts its row in the place of the older one.
"""

from __future__ import annotations

import fcntl
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REPORT, PAGE = Path(__file__).parent / "REPORT.md", ROOT / "docs" / "reliability.md"
_HEAD = "| # | fault | promise | sent | failed | load for | recovered after |\n|---|---|---|---|---|---|---|\n"
_LINE = re.compile(r"^\| (\d+[a-z]?) \|.*$", re.MULTILINE)
# The rows of one run, by their number.
MEASURED: dict[str, str] = {}


@dataclass(frozen=True)
class Fault:
    """One row: its number in the table, what is broken, what is promised then, and in how many seconds all is well."""

    number: str
    what: str
    promise: str
    within: float | None = None

    def record(self, counts: dict[str, Any], seconds: float | None = None) -> None:
        """Note what the load saw, and how long the recovery took."""
        took = "–" if seconds is None else f"{seconds:.0f} s"
        refused = f", {counts['refused']} of them refused" if counts["refused"] else ""
        counted = f"{counts['sent']:,} | {counts['failed']}{refused} | {counts['seconds']:.0f} s"
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


def _merge() -> str:
    """The report's table with the rows of this run in the place of older ones, and what they add up to."""
    rows = {found[1]: found[0] for found in _LINE.finditer(REPORT.read_text("utf-8"))} if REPORT.exists() else {}
    rows |= MEASURED
    cells = [row.split(" | ") for row in rows.values()]
    sent = sum(int(row[3].replace(",", "")) for row in cells)
    failed = sum(int(row[4].partition(",")[0]) for row in cells)
    table = "".join(f"{rows[number]}\n" for number in sorted(rows, key=_order))
    return f"{_HEAD}{table}\n{len(rows)} rows, {sent:,} requests sent, {failed} failed.\n"


def write_report(version: str) -> None:
    """Put what this run measured into the report and the page. `version` is the cluster's."""
    if not MEASURED:
        return
    with PAGE.open() as page:  # groups that run side by side write one after the other
        fcntl.flock(page, fcntl.LOCK_EX)
        _write(version)


def _write(version: str) -> None:
    told = f"Written by the tests of `tests/cluster/test_faults_*.py`; the last run was on Kubernetes {version}.\n"
    table = _merge()
    REPORT.write_text(f"# What faults cost, as measured\n\n{told}\n{table}", "utf-8")
    before, mark, rest = PAGE.read_text("utf-8").partition("<!-- faults: generated -->\n")
    _, end, after = rest.partition("<!-- faults: end -->")
    if mark and end:
        PAGE.write_text(f"{before}{mark}{table}{end}{after}", "utf-8")
