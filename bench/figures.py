"""What a run finds out: rates, times, memory, and what could not be measured."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from cases import Case
from compared_servers import Peer, Variant
from servers import Weight
from wrk import Seen


@dataclass(frozen=True)
class Plan:
    """How long, how often, how many connections."""

    seconds: float
    warm_seconds: float
    rounds: int
    connections: int


@dataclass
class Cell:
    """One server in one case: what each round saw, and one load at half of its own capacity."""

    rounds: list[Seen] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # the server's CPU time for each good response
    paced: Seen | None = None
    paced_rate: float = 0.0
    problem: str = ""

    @property
    def rate(self) -> float:
        """Requests a second: the median of the rounds; NaN when there is none that counts."""
        return math.nan if self.problem or not self.rounds else median(seen.rate for seen in self.rounds)

    @property
    def spread(self) -> float:
        """Half the distance between the best and the worst round, as a share of the median."""
        rates = [seen.rate for seen in self.rounds]
        return (max(rates) - min(rates)) / 2 / self.rate if len(rates) > 1 and self.rate else math.nan

    def middle(self, name: str) -> float:
        """The median over the rounds of p50 or p99."""
        return median(getattr(seen, name) for seen in self.rounds) if self.rounds else math.nan


@dataclass
class Figures:
    """Everything that a run found out, as it grows."""

    plan: Plan
    facts: dict[str, str]
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)  # by case, then peer
    starts: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by peer, then model
    weights: dict[str, dict[str, Weight]] = field(default_factory=dict)  # by peer, then model
    missing: dict[str, str] = field(default_factory=dict)  # by peer: why it is not measured
    versions: dict[str, str] = field(default_factory=dict)  # by peer
    choices: dict[str, dict[str, str]] = field(default_factory=dict)  # by peer, then model: its best variant
    untrained: dict[str, str] = field(default_factory=dict)  # by model: why there is none

    def cell(self, case: Case, peer: Peer) -> Cell:
        """The cell of a case and a peer."""
        return self.cells.setdefault(case.name, {}).setdefault(peer.name, Cell())

    def variant(self, peer: Peer, model: str) -> Variant:
        """The best way to set the peer up for a model; its first where that was not looked for."""
        title = self.choices.get(peer.name, {}).get(model, "")
        return next((variant for variant in peer.variants if variant.title == title), peer.variants[0])

    def write(self, path: Path) -> None:
        """Everything as JSON, so that a later run can be compared with this one."""
        document = asdict(self)
        for case, row in self.cells.items():
            for peer, cell in row.items():
                document["cells"][case][peer]["rate"] = None if math.isnan(cell.rate) else cell.rate
        path.write_text(json.dumps(document, indent=1), "utf-8")
