"""Folders of one version, as the store hands them to a loader."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.models.manifest import Manifest, digest_file, walk_files
from berth.models.model import Loaded


@pytest.fixture
def manifest_of() -> Callable[..., Manifest]:
    """manifest_of(folder, format, **more): a manifest with the digests of what lies in the folder."""

    def make(directory: Path, format_: str, **more: Any) -> Manifest:
        files = {name: digest_file(directory / name) for name in walk_files(directory)}
        return Manifest("model", "1", format_, "2026-01-01T00:00:00Z", files, **more)

    return make


@pytest.fixture
def check_threads() -> Callable[..., None]:
    """That eight threads, each with its own rows, get what one call over all rows gives."""

    def check(loaded: Loaded, name: str, rows: Any, output: str) -> None:
        whole = loaded.predict({name: rows}, [output])[output]

        def one(index: int) -> bool:
            row = index % len(rows)
            got = loaded.predict({name: rows[row : row + 1]}, [output])[output]
            return bool(np.allclose(got, whole[row : row + 1], rtol=1e-5, atol=1e-6))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(one, range(200)))

    return check
