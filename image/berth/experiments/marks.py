"""What all pods compute a bandit's weights from: the counts as they were known when a minute of the clock began.

Rewards never stop, so pods that compute at the same moment know different counts. Each therefore keeps what it knew at
the minute, its mark, and joins those of its peers for the same minute by maximum: after one exchange all have the same
mark, and so the same weights, until the next minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from berth.experiments.count_state import CountState, decode_state, encode_state, merge_states

MINUTE_SECONDS = 60.0


@dataclass(frozen=True)
class Mark:
    """The counts at a minute since 1970, without cells; -1 before there are any."""

    minute: int = -1
    state: CountState = field(default_factory=CountState)

    @property
    def seconds(self) -> float:
        """When the minute began: what rewards that fade are worth is computed for this moment."""
        return self.minute * MINUTE_SECONDS


@dataclass(frozen=True)
class PeerCounts:
    """What a peer says: all that it knows now, and its mark."""

    state: CountState
    mark: Mark = field(default_factory=Mark)


def find_minute(now: float) -> int:
    """The minute of a time in seconds since 1970."""
    return int(now // MINUTE_SECONDS)


def join_marks(own: Mark, others: Sequence[Mark]) -> Mark:
    """The own mark with what others knew at the same minute; the marks of other minutes are left out."""
    state = own.state
    for other in others:
        if other.minute == own.minute:
            state = merge_states(state, other.state)
    return Mark(own.minute, state)


def encode_mark(mark: Mark) -> dict[str, Any]:
    """A mark as JSON."""
    return {"minute": mark.minute, "state": encode_state(mark.state)}


def decode_mark(document: Any) -> Mark:
    """The mark of `encode_mark`; none for None, as of a peer that has no marks. Raises ValueError."""
    if document is None:
        return Mark()
    try:
        return Mark(int(document["minute"]), decode_state(document["state"]))
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not a mark: {error!r}") from error
