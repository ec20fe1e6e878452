"""The models of a server: found by name and version, loaded in the background, failures told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from berth.errors import LoadError, ModelFailed, ModelNotFound, NotReady
from berth.models.model import Model
from berth.models.store import Entry
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import FAILED, LOADING, READY, Lifecycle

KEYS = [("iris", "2"), ("iris", "1"), ("churn", "1")]


def open_entry(entry: Entry) -> Model:
    """A model that does nothing."""
    return Model(entry.name, entry.version, "onnx", "", (), (), lambda tensors, outputs: {})


def catalog_of(run_dir: Path, open_model: object = open_entry, **more: object) -> Catalog:
    """A catalog of KEYS."""
    entries = [Entry(name, version, run_dir) for name, version in KEYS]
    return Catalog(entries, open_model, Lifecycle(run_dir, 1, [entry.key for entry in entries]), **more)  # type: ignore[arg-type]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A catalog whose models have loaded."""
    catalog = catalog_of(tmp_path)
    catalog.start()
    assert catalog.wait(10)
    return catalog


@pytest.mark.parametrize(
    ("name", "version", "key"),
    [
        (None, None, "iris@2"),
        ("iris", None, "iris@2"),
        ("iris", "1", "iris@1"),
        ("churn", None, "churn@1"),
        (None, "1", "iris@1"),
    ],
)
def test_a_model_is_found(catalog: Catalog, name: str | None, version: str | None, key: str) -> None:
    model = catalog.resolve(name, version)
    assert f"{model.name}@{model.version}" == key


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("roses", None, "no model 'roses' here; this server has iris, churn"),
        ("iris", "3", "no version '3' of 'iris' here; this server has 2, 1"),
        (None, "3", "no version '3' of 'iris' here"),
        ("", None, "no model '' here"),
        ("x\n" * 500, None, r"no model 'x\\nx"),
    ],
)
def test_what_is_not_here_is_told_with_what_is(
    catalog: Catalog, name: str | None, version: str | None, message: str
) -> None:
    with pytest.raises(ModelNotFound, match=message) as caught:
        catalog.resolve(name, version)
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message


def test_nothing_loads_before_the_start(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path)
    assert catalog.models() == []
    with pytest.raises(NotReady, match="iris@2 is still loading; query /readyz"):
        catalog.resolve("iris")


def test_models_are_told_in_their_order(catalog: Catalog) -> None:
    assert [(model.name, model.version) for model in catalog.models()] == KEYS
    assert catalog.versions("iris") == ["2", "1"]
    assert catalog.versions("roses") == []


def test_a_failure_is_told_and_leaves_the_others(tmp_path: Path) -> None:
    def open_some(entry: Entry) -> Model:
        if entry.version == "2":
            raise LoadError("a file\nof two lines \udcff")
        if entry.name == "churn":
            raise RuntimeError("no device")
        return open_entry(entry)

    ready: list[str] = []
    catalog = catalog_of(tmp_path, open_some, on_ready=lambda model: ready.append(model.version))
    catalog.start()
    assert catalog.wait(10)
    with pytest.raises(ModelFailed, match="iris@2 could not be loaded; /health says why"):
        catalog.resolve(None)
    assert catalog.resolve("iris", "1").version == "1"
    assert ready == ["1"]
    (states,) = Lifecycle(tmp_path, 1, []).all_states()
    assert {key: value.state for key, value in states.items()} == {"iris@2": FAILED, "iris@1": READY, "churn@1": FAILED}
    assert states["iris@2"].reason == r"a file of two lines \udcff"
    assert states["churn@1"].reason == "RuntimeError: no device"


def test_a_replacement_waits_and_beats_meanwhile(tmp_path: Path) -> None:
    beats = 0
    go = threading.Event()

    def slowly(entry: Entry) -> Model:
        assert go.wait(10)
        return open_entry(entry)

    def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            go.set()

    catalog = catalog_of(tmp_path, slowly)
    catalog.start(respawned=True, notify=beat)
    assert beats >= 3
    assert len(catalog.models()) == 3


def test_a_first_start_does_not_wait(tmp_path: Path) -> None:
    go = threading.Event()
    calls: list[str] = []

    def slowly(entry: Entry) -> Model:
        calls.append(entry.key)
        assert go.wait(10)
        return open_entry(entry)

    catalog = catalog_of(tmp_path, slowly)
    catalog.start()
    catalog.start()
    assert catalog.models() == []
    assert not catalog.wait(0.01)
    go.set()
    assert catalog.wait(10)
    assert len(calls) == 3


def test_states_are_known_from_the_start(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path, 1, ["iris@1"])
    assert lifecycle.states["iris@1"].state == LOADING


def test_a_reason_names_no_path_of_this_machine(tmp_path: Path) -> None:
    def open_nothing(entry: Entry) -> Model:
        raise FileNotFoundError(2, "No such file or directory", str(tmp_path / "model.json"))

    catalog = catalog_of(tmp_path, open_nothing)
    catalog.start()
    assert catalog.wait(10)
    reason = catalog._lifecycle.states["iris@2"].reason
    assert reason == "OSError: model.json: No such file or directory"
