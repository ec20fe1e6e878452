"""What the upgrades of several classes share: renamed attributes, and records of nodes in today's layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from berth.errors import LoadError


def rename_keys(state: dict[str, Any], names: Mapping[str, str]) -> None:
    """Attributes by the names that they have today; what has today's name already stays."""
    for old, new in names.items():
        if old in state:
            state.setdefault(new, state.pop(old))


def relay_nodes(state: dict[str, Any], record: Any, needed: Collection[str], names: Mapping[str, str]) -> bool:
    """Put `nodes` into today's record, where `names` has the fields that were renamed; whether that was to be done.

    Raises LoadError for nodes without the needed fields.
    """
    nodes = state.get("nodes")
    if not isinstance(nodes, np.ndarray) or nodes.dtype == record:
        return False
    fields = nodes.dtype.names or ()
    if nodes.ndim != 1 or not set(needed) <= set(fields):
        raise LoadError("the file is damaged: a tree's nodes have not the fields that nodes have")
    state["nodes"] = made = np.zeros(nodes.shape, record)
    for field in fields:
        if (today := names.get(field, field)) in record.names:
            made[today] = nodes[field]
    return True
