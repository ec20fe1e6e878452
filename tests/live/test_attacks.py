"""Clients that send or read slowly, or not at all, take nothing from others: one worker, honest clients beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from live.attacks import ATTACKS, Times, allow_files, attack
from live.berths import metric, running_ready
from live.server import Server, wait_until

pytestmark = pytest.mark.live
# What a client may notice of a long attack; short ones run beside other tests, where times say nothing.
LIVEZ_P99_SECONDS = 0.5
PREDICT_P99_SECONDS = 1.0
# Of the connections in the short form: making the large responses takes longer than it lasts.
SHARES = {"silence": 0.3, "unread responses": 0.3}


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker with iris, and a model of large answers."""
    allow_files()
    folder, rng = tmp_path_factory.mktemp("attacked"), np.random.default_rng(0)
    artifact = next((store / "iris" / "1").glob("*.joblib"))
    add_version(folder / "store", artifact, AddRequest("iris"), LoadOptions(accelerate="require"))
    wide = LinearRegression().fit(rng.normal(size=(20, 2)), rng.normal(size=(20, 64)))
    joblib.dump(wide, folder / "wide.joblib")
    add_version(folder / "store", folder / "wide.joblib", AddRequest("wide"), LoadOptions(accelerate="require"))
    with running_ready(folder / "store", folder, models="iris,wide", workers=1) as server:
        yield server


def _check(server: Server, name: str, seconds: float, share: float) -> tuple[Times, Times]:
    probes, predictions = attack(server, name, seconds, share)
    print(f"{name}, {seconds:g} s: /livez {probes}; predictions {predictions}")
    assert probes.failures == []
    assert predictions.failures == []
    wait_until(lambda: metric(server, "berth_inflight") == 0, "the gate to be empty")
    assert "Traceback" not in server.log()
    assert len(server.workers()) == 1
    return probes, predictions


@pytest.mark.parametrize("name", ATTACKS)
def test_a_short_attack_is_not_noticed(server: Server, name: str) -> None:
    _check(server, name, seconds=1.5, share=SHARES.get(name, 1.0))


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_a_long_attack_is_not_noticed(server: Server, name: str) -> None:
    probes, predictions = _check(server, name, seconds=20, share=1.0)
    assert probes.quantile(0.99) < LIVEZ_P99_SECONDS
    assert predictions.quantile(0.99) < PREDICT_P99_SECONDS
