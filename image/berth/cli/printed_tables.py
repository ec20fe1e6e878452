"""Tables for people, on standard output; no cell is markup, whatever a model or a column is called."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any


def print_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    marked: Collection[int] = (),
    width: int | None = None,
    **look: Any,
) -> None:
    """Print rows of cells; those whose numbers are `marked` in red. `look` is what rich's Table accepts."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, **look)
    for at, row in enumerate(rows):
        table.add_row(*map(Text, row), style="bold red" if at in marked else "")
    Console(width=width).print(table)
