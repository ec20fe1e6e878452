"""A profile as a table, for `berth inspect`."""

from __future__ import annotations

from berth.cli.printed_tables import print_table
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
    rows = [
        (each.name, each.kind, str(len(each.shares)), f"{each.missing_share:.1%}", _describe_values(each))
        for each in profile.features
    ]
    title = f"profile of {max(each.rows for each in profile.features)} rows"
    print_table(("column", "kind", "bins", "missing", "values"), rows, title=title, box=None)
