"""Counters in the text that /metrics of a server returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prometheus_client.parser import text_string_to_metric_families

# A sample's name and its labels, sorted.
Series = tuple[str, tuple[tuple[str, str], ...]]
Samples = Mapping[Series, float]


def _name_of(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]


def parse_samples(text: str, names: Collection[str]) -> dict[Series, float]:
    """The samples that have one of these names. Raises ValueError for text of another format."""
    wanted = "".join(f"{line}\n" for line in text.splitlines() if _name_of(line) in names)
    families = text_string_to_metric_families(wanted)
    samples = (sample for family in families for sample in family.samples)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
