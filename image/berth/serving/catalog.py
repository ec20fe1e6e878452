"""The models a server serves: loaded in the background, found by name and version."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from berth.errors import BerthError, ModelFailed, ModelNotFound, NotReady
from berth.models.model import Model
from berth.models.store import Entry
from berth.serving.lifecycle import FAILED, READY, Lifecycle
from berth.telemetry.logs import log

_POLL_SECONDS = 0.05
# gunicorn's arbiter stops the server when a worker ends with this code (see gunicorn.conf.py).
EXIT_LOAD_FAILED = 114


def _reason(error: BaseException) -> str:
    """One line, and valid UTF-8 even where it names a file that is not."""
    if isinstance(error, OSError) and isinstance(error.filename, str):  # clients read it: no path of this machine
        error = OSError(f"{Path(error.filename).name}: {error.strerror}")
    raised = "" if isinstance(error, Exception) else "the model raised "
    try:
        text = error.message if isinstance(error, BerthError) else f"{raised}{type(error).__name__}: {error}"
    except Exception:  # an exception of a model's own class, whose text cannot be made
        text = type(error).__name__
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()


def index_entries(entries: Sequence[Entry]) -> dict[tuple[str | None, str | None], Entry]:
    """Entries by each name and version that a request may give, either of which it may leave out."""
    found: dict[tuple[str | None, str | None], Entry] = {}
    for entry in entries:
        names = (entry.name, None) if entry.name == entries[0].name else (entry.name,)
        for words in ((name, version) for name in names for version in (entry.version, None)):
            found.setdefault(words, entry)
    return found


class Catalog:
    """Every chosen version, ready or not. Loading starts in `start`, never before."""

    def __init__(
        self,
        entries: Sequence[Entry],
        open_model: Callable[[Entry], Model],
        lifecycle: Lifecycle,
        *,
        on_ready: Callable[[Model], None] = lambda model: None,
        allow: Callable[[Entry], AbstractContextManager[None]] = lambda entry: nullcontext(),
        on_loaded: Callable[[], None] = lambda: None,
        exit_on_failure: bool = False,
    ) -> None:
        self.entries = tuple(entries)
        self._by_words = index_entries(self.entries)
        self._open = open_model
        self._lifecycle = lifecycle
        self._on_ready = on_ready
        self._allow = allow
        self._on_loaded = on_loaded
        self._exit_on_failure = exit_on_failure
        # Those that are ready, by all words that find them: every request looks here.
        self._models: dict[tuple[str | None, str | None], Model] = {}
        self._started = threading.Event()

    def start(self, *, respawned: bool = False, notify: Callable[[], None] = lambda: None) -> None:
        """Load in a thread. A replacement worker waits here, so that it accepts no connection before its models."""
        if self._started.is_set():
            return
        self._started.set()
        thread = threading.Thread(target=self._load_all, name="load", daemon=True)
        thread.start()
        while respawned and thread.is_alive():
            notify()
            thread.join(_POLL_SECONDS)

    def _load_all(self) -> None:
        for entry in self.entries:
            self._load(entry)
        self._on_loaded()

    def _load(self, entry: Entry) -> None:
        try:
            with self._allow(entry):
                model = self._open(entry)
                self._on_ready(model)
        except BaseException as error:  # the edge of loading: SystemExit too, or the thread would end and say nothing
            reason = _reason(error)
            log(f"{entry.key} failed: {reason}", level=logging.ERROR, model=entry.name, version=entry.version)
            self._lifecycle.set_state(entry.key, FAILED, reason)
            if self._exit_on_failure:
                os._exit(EXIT_LOAD_FAILED)
            return
        self._models.update({words: model for words, found in self._by_words.items() if found is entry})
        # Before anybody may see the state: who waits for it may end, and this thread with him.
        log(f"{entry.key} is ready", model=entry.name, version=entry.version, seconds=round(model.load_seconds, 3))
        self._lifecycle.set_state(entry.key, READY)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether every model is ready or has failed within the time; for the command line and tests."""
        deadline = time.monotonic() + timeout_seconds
        while not self._lifecycle.settled and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return self._lifecycle.settled

    def models(self) -> list[Model]:
        """The models that are ready, in the order they were chosen."""
        ready = (self._models.get((entry.name, entry.version)) for entry in self.entries)
        return [model for model in ready if model is not None]

    def versions(self, name: str) -> list[str]:
        """The versions served under a name, in the order they were chosen."""
        return [entry.version for entry in self.entries if entry.name == name]

    def find(self, name: str | None, version: str | None = None) -> Entry:
        """The entry behind a request's words: the first one without a name, its first version without a version."""
        if (entry := self._by_words.get((name, version))) is not None:
            return entry
        name = self.entries[0].name if name is None else name
        if not (versions := self.versions(name)):
            served = ", ".join(dict.fromkeys(entry.name for entry in self.entries))
            raise ModelNotFound(f"no model {name[:128]!r} here; this server has {served}")
        raise ModelNotFound(
            f"no version {str(version)[:128]!r} of {name!r} here; this server has {', '.join(versions)}"
        )

    def resolve(self, name: str | None, version: str | None = None) -> Model:
        """The model to call. Raises ModelNotFound, ModelFailed, NotReady."""
        if (model := self._models.get((name, version))) is not None:
            return model
        entry = self.find(name, version)
        state = self._lifecycle.states[entry.key]
        if state.state == FAILED:
            raise ModelFailed(f"{entry.key} could not be loaded; /health says why")
        raise NotReady(f"{entry.key} is still loading; query /readyz", headers={"Retry-After": "1"})
