"""`berth serve`: settle every setting, make the run directory, and become gunicorn."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import berth
from berth.cli.model_options import build_request, given_options, model_options
from berth.cli.option_types import PORT
from berth.cli.store_option import read_settings
from berth.cpu import read_cpu_budget, thread_environment
from berth.cpu_settings import AUTO_FILE, plan_settings, settle_plan, write_auto
from berth.errors import SettingsError
from berth.load_settings import load_options
from berth.loaders.formats import find_model_file
from berth.models.store import WORD, list_names, select_models
from berth.platforms import bucket_of_platform
from berth.publishing.adding import AddRequest, add_version
from berth.serving.lifecycle import MADE_HERE, discard_run_dir
from berth.settings import Settings, describe_settings, encode_settings, read_environment, store_directory
from berth.telemetry import logs

# What a server of ours leaves in its run directory; nothing else in it is ever touched.
_OWN = ("workers", "metrics", "trials", "drain", "all-ready", "store", "worker-count", AUTO_FILE)

# glibc gives each thread an arena of its own and keeps large blocks once they were freed: after some requests of
# megabytes a worker of 40 threads would hold twice its memory for good. What the operator sets wins.
_MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "4194304"}


def make_run_dir(given: str) -> Path:
    """A run directory without anything from an earlier start; in memory where there is /dev/shm."""
    if not given:
        memory = Path("/dev/shm")  # noqa: S108 - only as the parent of a private directory
        usable = memory.is_dir() and os.access(memory, os.W_OK)
        made = Path(tempfile.mkdtemp(prefix="berth-", dir=memory if usable else None))
        (made / MADE_HERE).touch()
        return made
    run_dir = Path(given)
    run_dir.mkdir(parents=True, exist_ok=True)
    for path in [*(run_dir / name for name in _OWN), *run_dir.glob("stuck-*"), *run_dir.glob("blocked-*")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return run_dir


def settle(settings: Settings, run_dir: Path) -> Settings:
    """The settings with nothing left to find out."""
    write_auto(run_dir, settings)
    return replace(
        settle_plan(settings, plan_settings(settings)),
        run_dir=str(run_dir),
        log_format=settings.log_format or ("text" if sys.stdout.isatty() else "json"),
    )


def gunicorn_file() -> Path:
    """gunicorn.conf.py: beside the package in the image and a checkout, in share/berth of an installed wheel."""
    beside = Path(berth.__file__).parent.parent / "gunicorn.conf.py"
    return beside if beside.exists() else Path(sys.prefix, "share", "berth", "gunicorn.conf.py")


def _name_of(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")
    return name if WORD.fullmatch(name) else "model"


def _file_of(target: Path) -> Path | None:
    """The model file (or folder) that a target means; None where it is a store. Raises LoadError."""
    if not target.is_dir() or any((target / marker).exists() for marker in ("MLmodel", "model.py")):
        return target
    return None if list_names(target) else find_model_file(target)


def _add_to_own_store(path: Path, run_dir: Path, settings: Settings, request: AddRequest) -> str:
    """A store made for one file; on disk, because /dev/shm is memory, and in a container often 64 MB of it."""
    store = run_dir / "store"
    if (mark := run_dir / MADE_HERE).exists():
        store = Path(tempfile.mkdtemp(prefix="berth-store-"))
        mark.write_text(str(store), "utf-8")
    add_version(store, path, request, load_options(settings))
    return str(store)


def _store_of(target: Path, name: str | None, given: dict[str, Any], settings: Settings, run_dir: Path) -> str:
    """The store to serve: the target itself, or one made for the file it means."""
    path = _file_of(target)
    if path is not None:
        return _add_to_own_store(path, run_dir, settings, build_request(name or _name_of(path), "1", given))
    if used := given_options(given | {"name": name}):
        raise click.UsageError(f"{used[0]} is for a model file; {str(target)!r} is a model store")
    return str(target)


def _fetch_platforms(settings: Settings) -> Path | None:
    """The model that Vertex AI has in a bucket, fetched into a folder of its own; None where there is none.

    Raises StoreError.
    """
    if not (uri := bucket_of_platform(read_environment(), settings.model_store)):
        return None
    from berth.pulling.loose_files import fetch_loose_files

    folder = Path(tempfile.mkdtemp(prefix="berth-fetched-"))
    try:
        fetch_loose_files(uri, folder)
    except BaseException:  # Ctrl-C too: the caller does not know the folder yet
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _choose_store(
    target: Path | None, name: str | None, given: dict[str, Any], settings: Settings, run_dir: Path
) -> Settings:
    """The settings with the store to serve."""
    fetched = _fetch_platforms(settings) if target is None else None
    folder = target or fetched or store_directory(settings)
    if target is None and not folder.is_dir():
        return settings
    store = _store_of(folder, name, given, settings, run_dir)
    if fetched is not None and store != str(fetched):
        shutil.rmtree(fetched, ignore_errors=True)
    elif fetched is not None and (mark := run_dir / MADE_HERE).exists():
        mark.write_text(store, "utf-8")
    return replace(settings, model_store=store)


def _log_start(settings: Settings) -> None:
    logs.configure(settings.log_level, settings.log_format)
    budget = read_cpu_budget()
    values = {name: value for name, value, _, _ in describe_settings(settings, {})}
    logs.log(f"berth {berth.__version__} starts", cpus=budget.limit, cpus_from=budget.source, settings=values)


def start_gunicorn(settings: Settings) -> None:
    """Become gunicorn; never returns."""
    metrics = Path(settings.run_dir, "metrics")
    metrics.mkdir(parents=True, exist_ok=True)
    given = _MALLOC | dict(read_environment())
    if ignored := given.pop("GUNICORN_CMD_ARGS", ""):  # it would win over what is settled here
        logs.log(f"GUNICORN_CMD_ARGS={ignored!r} has no effect; see `berth settings`", level=logging.WARNING)
    environ = given | thread_environment(settings.cpu_threads or 1) | encode_settings(settings)
    environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    sys.stdout.flush()
    program = [sys.executable, "-m", "gunicorn", "-c", str(gunicorn_file()), "berth.app:create_app()"]
    os.execve(sys.executable, program, environ)  # noqa: S606


@click.command()
@click.argument("target", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="Name of the model, if TARGET is a file [default: from the file's name].")
@click.option("--host", help="Address to listen on [default: BERTH_HOST or 0.0.0.0].")
@click.option("--port", type=PORT, help="Port to listen on [default: BERTH_PORT or 8000].")
@click.option(
    "--models", help="Models to serve, as name@version,… [default: BERTH_MODELS, or the latest version of each]."
)
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Number of gunicorn workers [default: from the CPU limit]."
)
@model_options
def serve(
    target: Path | None,
    name: str | None,
    host: str | None,
    port: int | None,
    models: str | None,
    workers: int | None,
    **given: Any,
) -> None:
    """Serve a model file, a folder that holds one, or every model of a store.

    \b
    berth serve                        the store in BERTH_MODEL_STORE, or ./model_store
    berth serve model.joblib           one file, loaded through the restricted unpickler
    berth serve model.sav --sample X.csv       the options of `berth add` describe a file
    berth serve /mnt/models            a folder with a model file in it
    berth serve store --models iris@3,churn
    """
    settings = read_settings(host=host, port=port, models=models, workers=workers)
    run_dir = make_run_dir(settings.run_dir)
    try:
        settings = settle(settings, run_dir)
        settings = _choose_store(target, name, given, settings, run_dir)
        select_models(store_directory(settings), settings.models, settings.model_version)
        if not gunicorn_file().exists():
            raise SettingsError(f"{gunicorn_file()} is missing; install berth again")
        _log_start(settings)
    except BaseException:  # Ctrl-C too: only this function knows the directory
        discard_run_dir(run_dir)
        raise
    start_gunicorn(settings)


COMMANDS = (serve,)
