"""The header of a CSV that has none, as SageMaker's clients send it: numbers from the first line on."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def with_header(body: bytes, names: Sequence[str] | None) -> bytes:
    """The CSV with a line of names before it where its first line is numbers alone, else as it is.

    `names` are the model's columns; None where it has none. A first line that is those names, or 0, 1, 2, … as pandas
    counts columns, is a header.
    """
    first = body.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].decode("utf-8", "replace")
    cells = [cell.strip().strip('"') for cell in first.split(",")]
    counted = [str(index) for index in range(len(cells))]
    if not all(_NUMBER.fullmatch(cell) for cell in cells) or cells == counted or set(cells) & set(names or ()):
        return body
    line = io.StringIO()
    # As many names as cells: a row that is too long or too short is reported against the model's width.
    csv.writer(line, lineterminator="\n").writerow(names if names and len(names) == len(cells) else counted)
    return line.getvalue().encode() + body.removeprefix(b"\xef\xbb\xbf")
