"""How much memory this process may still take: the minimum of its cgroups' limits and what the machine has free."""

from __future__ import annotations

from pathlib import Path

from berth.cgroups import levels_of, parse_cgroup_paths, read_text, v2_levels


def _number(path: Path) -> int | None:
    text = read_text(path).strip()
    return int(text) if text.isdigit() else None


def _field(text: str, name: str) -> int:
    """The number behind `name` in a file of "name number" lines."""
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return 0


def _free_in(level: Path, limit: str, used: str, cache: str) -> int | None:
    """What one cgroup leaves; page cache that the kernel gives up under pressure counts as free."""
    most, now = _number(level / limit), _number(level / used)
    if most is None or now is None:
        return None
    return max(0, most - now + _field(read_text(level / "memory.stat"), cache))


def free_memory(
    root: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
    machine: Path = Path("/proc/meminfo"),
) -> int | None:
    """Bytes, or None where neither cgroups nor /proc report any (macOS)."""
    paths = parse_cgroup_paths(read_text(membership))
    v2 = v2_levels(root, paths)
    found = [_free_in(level, "memory.max", "memory.current", "inactive_file") for level in v2]
    v1 = levels_of(root / "memory", paths.get("memory", ""))
    found += [_free_in(level, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file") for level in v1]
    found.append(_field(read_text(machine), "MemAvailable") * 1024 or None)
    return min((free for free in found if free is not None), default=None)
