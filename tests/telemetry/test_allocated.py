"""A process's metrics file: what is written through its view is in the file, also after it has grown or moved."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from berth.telemetry.metrics.allocated import AllocatedDict


def test_a_view_writes_the_file_also_after_it_has_grown(tmp_path: Path) -> None:
    values = AllocatedDict(str(tmp_path / "counter_1.db"))
    first = values.doubles
    keys = [f"key-{at}-{'x' * 200}" for at in range(1000)]
    for at, key in enumerate(keys):
        values.read_value(key)
        values.doubles[values._positions[key] // 8] = float(at)
    assert values.doubles is not first, "too few keys to make it grow"
    seen = {key: value for key, value, _, _ in MmapedDict.read_all_values_from_file(str(tmp_path / "counter_1.db"))}
    assert seen == {key: float(at) for at, key in enumerate(keys)}
    values.close()


def test_what_moved_to_memory_counts_on(tmp_path: Path) -> None:
    values = AllocatedDict(str(tmp_path / "counter_1.db"))
    values.write_value("a", 1.0, 0.0)
    values._move_to_memory()
    values.doubles[values._positions["a"] // 8] = 2.0
    assert values.read_value("a") == (2.0, 0.0)
    values.close()
