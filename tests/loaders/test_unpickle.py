"""The restricted unpickler: nothing of a hostile file runs, and its names are told."""

from __future__ import annotations

import copyreg
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.unpickle.loading import default_allow, judge_pickle, load_joblib, load_pickle, read_globals
from malicious import MALICIOUS, REAL
from malicious_calls import CALLS, DOTTED
from malicious_states import EXTENSION
from pickle_assembler import marker, named, stacked, text, whole

# What a child process does with each file, to see that the payloads are real.
_PLAIN_READER = """
import copyreg, pathlib, sys, joblib, warnings
copyreg.add_extension(*{extension!r})
for path in map(pathlib.Path, sys.argv[1:]):
    try:
        joblib.load(path)
    except BaseException:
        pass
"""


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@contextmanager
def _extension() -> Iterator[None]:
    """The registered extension code; only for loading, because pickling would use it too."""
    copyreg.add_extension(*EXTENSION)
    yield
    copyreg.remove_extension(*EXTENSION)


@pytest.mark.parametrize("name", MALICIOUS)
def test_hostile_file_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    MALICIOUS[name](path)
    for load in (load_pickle, load_joblib):
        with _extension(), pytest.raises((UnsafeArtifact, LoadError)) as refusal:
            load(path, default_allow())
        assert path.name in refusal.value.message
    assert not marker(path).exists()
    assert not list(tmp_path.glob("*.ran"))


@pytest.mark.parametrize("name", MALICIOUS)
def test_inspection_refuses_what_the_loader_refuses(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    MALICIOUS[name](path)
    try:
        _, reason = judge_pickle(path, default_allow())
    except LoadError as error:
        reason = error.message
    assert reason
    assert path.name in reason
    assert reason.isprintable()
    assert not list(tmp_path.glob("*.ran"))


@pytest.mark.parametrize("label", CALLS)
def test_refusal_names_the_global(label: str, tmp_path: Path) -> None:
    module, name, _ = CALLS[label]
    path = tmp_path / "model.pkl"
    MALICIOUS[f"call-{label}"](path)
    with pytest.raises(UnsafeArtifact) as refusal:
        load_pickle(path, default_allow())
    module = {"__builtin__": "builtins"}.get(module, module)
    assert f"{module}:{name}" in refusal.value.message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("append-allowed", "numpy:log1p as append of _CFNode"),
        ("array-state-twice", "a second state set on an array"),
        ("binpersid", "a persistent id"),
        ("called-instance", "a call of a RBF that the file put together"),
        ("computed-name", "a name that the file computes"),
        ("discarded", "posix:system"),
        ("ext1", "the extension code 245"),
        ("ext2", "the extension code 245"),
        ("ext4", "the extension code 245"),
        ("generator-maker", "posix:system"),
        ("inst", "posix:system"),
        ("inst-allowed", "INST"),
        ("inside-estimator", "posix:system"),
        ("joblib-gzip", "posix:system"),
        ("joblib-nested", "posix:system"),
        ("joblib-nested-after-numbers", "posix:system"),
        ("joblib-nested-old", "posix:system"),
        ("joblib-nested-twice", "posix:system"),
        ("joblib-old-wrapper", "joblib.numpy_pickle:NDArrayWrapper"),
        ("memo", "posix:system"),
        ("newobj", "subprocess:Popen"),
        ("obj", "posix:system"),
        ("partial-of-allowed", "functools:partial"),
        ("persid", "a persistent id"),
        ("setstate-allowed", "the attribute '__setstate__' set on a LinearRegression"),
        ("state-on-allowed-class", "a state set on LinearRegression"),
        ("state-on-function", "a state set on mean"),
        ("stats-exec", "scipy.stats._continuous_distns:norm_gen"),
    ],
)
def test_refusal_says_why(name: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    MALICIOUS[name](path)
    with _extension(), pytest.raises(UnsafeArtifact) as refusal:
        load_joblib(path, default_allow())
    assert reason in refusal.value.message


@pytest.mark.parametrize("label", DOTTED)
def test_dotted_name_is_one_name(label: str, tmp_path: Path) -> None:
    module, name = DOTTED[label]
    path = tmp_path / "model.pkl"
    MALICIOUS[label](path)
    with pytest.raises(UnsafeArtifact, match="not allowed") as refusal:
        load_pickle(path, default_allow())
    assert f"{module}:{name}" in refusal.value.message


def test_payloads_are_real(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in REAL]
    for path in paths:
        MALICIOUS[path.name](path)
    script = _PLAIN_READER.format(extension=EXTENSION)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, *map(str, paths)], check=True, timeout=60)
    assert [path.name for path in paths if not marker(path).exists()] == []


def test_message_is_one_printable_line(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.pkl", whole(stacked("evil\nmodule\x1b[2J", "x" * 5000)))
    with pytest.raises(UnsafeArtifact) as refusal:
        load_pickle(path, default_allow())
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 2000


def test_globals_are_read_without_importing(tmp_path: Path) -> None:
    path = _write(tmp_path / "m", whole(named("antigravity", "fly") + b"0" + stacked("this", "s") + b"0" + text("x")))
    found = read_globals(path, default_allow())
    assert [(item.module, item.name, item.allowed) for item in found] == [
        ("antigravity", "fly", False),
        ("this", "s", False),
    ]
    assert not {"antigravity", "this"} & set(sys.modules)
