"""Where the kernel says what this process may use: the files of its control groups, v1 and v2."""

from __future__ import annotations

from pathlib import Path


def parse_cgroup_paths(text: str) -> dict[str, str]:
    """The process's path for each controller in /proc/self/cgroup; the key of v2's one hierarchy is empty."""
    paths = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path.strip().strip("/")
    return paths


def read_text(path: Path) -> str:
    """A small file of the kernel; empty where it cannot be read."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def levels_of(mount: Path, path: str) -> list[Path]:
    """The process's own cgroup and all above it: each may set a lower quota.

    In a container the path may be the host's, which is not below its mount; then the mount is the container's own.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def v2_levels(root: Path, paths: dict[str, str]) -> list[Path]:
    """The levels of the one hierarchy of v2; a machine with both versions mounts it at `unified`."""
    return [level for mount in (root, root / "unified") for level in levels_of(mount, paths.get("", ""))]
