"""One of several runs over the same file: it scores every n-th chunk, and its part file is joined with the others'."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from berth.errors import OperatorError

_TEXT = re.compile(r"(\d{1,5})/(\d{1,5})")
_PART = re.compile(r"part-(\d{5})-of-(\d{5})(\.[a-z]+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """Which chunks a run scores: those whose number is `index` modulo `count`. Numbers begin at 0."""

    index: int
    count: int

    def takes(self, chunk: int) -> bool:
        """Whether a chunk is its own."""
        return chunk % self.count == self.index

    def file(self, folder: Path, ending: str) -> Path:
        """Its part file."""
        return folder / f"part-{self.index:05d}-of-{self.count:05d}{ending}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """INDEX/COUNT, as in 3/10; the first is 0. Raises OperatorError."""
    found = _TEXT.fullmatch(text)
    if found is None or not int(found[1]) < int(found[2]):
        raise OperatorError(f"the shard {text[:40]!r}: want INDEX/COUNT with INDEX from 0 to COUNT - 1, such as 3/10")
    return Shard(int(found[1]), int(found[2]))


def find_parts(folder: Path) -> list[Path]:
    """The part files of a folder, by index. Raises OperatorError where some are missing, or of several runs."""
    found = {path: part for path in sorted(folder.iterdir()) if (part := _PART.fullmatch(path.name))}
    kinds = {(part[2], part[3]) for part in found.values()}
    if len(kinds) != 1:
        named = ", ".join(f"of {count} in {ending}" for count, ending in sorted(kinds)) or "none"
        raise OperatorError(f"{folder} must hold the part files of one run, but it has parts {named}")
    ((count, _),) = kinds
    there = {int(part[1]) for part in found.values()}
    if missing := sorted(set(range(int(count))) - there):
        shown = ", ".join(f"{index}/{int(count)}" for index in missing[:10])
        raise OperatorError(f"{folder} lacks {len(missing)} of {int(count)} shards: {shown}; run them, then join")
    return list(found)
