"""A profile as a table, for `berth inspect`."""

from __future__ import annotations

from berth.models.profile import CATEGORICAL, NUMERIC, ColumnProfile, Profile

_NAMED_VALUES = 4


def _describe_values(column: ColumnProfile) -> str:
    """The range of a column's values or lengths, or its first categories."""
    if column.kind == CATEGORICAL:
        names = column.labels[: len(column.categories)]
        more = len(names) - _NAMED_VALUES
        return ", ".join(names[:_NAMED_VALUES]) + (f" and {more} more" if more > 0 else "")
    unit = "" if column.kind == NUMERIC else " characters"
    return f"{column.edges[0]:.6g} to {column.edges[-1]:.6g}{unit}"


def print_profile(profile: Profile) -> None:
    """Print one line for each column, the prediction last."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = max(column.rows for column in profile.features)
    table = Table("column", "kind", "bins", "missing", "values", title=f"profile of {rows} rows", box=None)
    for column in profile.features:
        figures = str(len(column.shares)), f"{column.missing_share:.1%}"
        table.add_row(*map(Text, (column.name, column.kind, *figures, _describe_values(column))))
    Console().print(table)
