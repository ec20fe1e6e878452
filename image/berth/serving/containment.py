"""Run what a model file may break in a child process: a crash, an exit, a time-out or exhausted memory is one line.

The child is forked, which costs milliseconds and needs no second import of a library; so this is for processes that
have no threads of their own yet, and that have not used a GPU: the command line, and a worker before it starts any.

    parent   reads the child's lines from a pipe until it ends, kills it (and all it started) at the deadline
    child    default signals, no core file, no output, only the pipe open, limits set, ends with the parent; runs the
             task, writes JSON lines to the pipe: {"step"} begins, {"say"} for people, {"log"}, then {"done"}

What the child writes is never believed further than a sentence: it is a model's word. The parent takes success or a
reason, shortened to one line, and of errors a class of the table below.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from berth.errors import BerthError, IntegrityError, LoadError, ManifestError, StoreError, UnsafeArtifact
from berth.serving.confinement import become_child, limit_cpu, limit_memory, use_one_thread
from berth.telemetry.logs import LOGGER, log

_TICK_SECONDS = 0.02
_MOST_BYTES = 1 << 18
_MOST_REASON = 2000
_RAISED = {cls.__name__: cls for cls in (LoadError, UnsafeArtifact, IntegrityError, ManifestError, StoreError)}


@dataclass(frozen=True, slots=True)
class Budget:
    """What a child may use for one step: seconds of wall clock, of CPU time (infinity: no limit), bytes of memory."""

    seconds: float
    cpu_seconds: float = math.inf
    memory_bytes: int | None = None


@dataclass(slots=True)
class Report:
    """The child's end of the pipe: what the task reports of its progress."""

    pipe: int
    budget: Budget

    def write(self, kind: str, value: Any = None) -> None:
        """One line; what the parent could not read whole would be lost, so lines are short."""
        os.write(self.pipe, json.dumps({kind: value}).encode() + b"\n")

    def step(self, doing: str, times: float = 1.0) -> None:
        """A further step begins, with time of its own: `times` that of the budget."""
        self.write("step", [doing, times])
        limit_cpu(self.budget.cpu_seconds * times)

    def say(self, text: str) -> None:
        """A line for people."""
        self.write("say", one_line(text))


Task: TypeAlias = Callable[[Report], None]


@dataclass(slots=True)
class _Heard:
    """What the parent knows of the child."""

    doing: str
    deadline: float
    done: bool = False
    failed: tuple[str, str] | None = None
    late: bool = False
    size: int = 0
    rest: bytes = field(default=b"")
    # Resident memory of the parent when it forked.
    before_kib: int = 0


def _resident_kib() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 10


def one_line(text: object) -> str:
    """Untrusted text as one line of bounded length that may be printed."""
    line = " ".join(str(text)[: 4 * _MOST_REASON].split()).encode("utf-8", "backslashreplace").decode()
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
    return line if len(line) <= _MOST_REASON else line[: _MOST_REASON - 1] + "…"


class _LogToParent(logging.Handler):
    """Warnings of the task, for the parent to log as its own."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            self._report.write("log", one_line(record.getMessage()))


def _failure(error: BaseException, budget: Budget) -> tuple[str, str]:
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        return "LoadError", _short_of_memory(budget)
    if isinstance(error, BerthError):
        return type(error).__name__, one_line(error.message)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "StoreError", one_line(error)
    raised = "" if isinstance(error, Exception) else "the model raised "
    return "LoadError", one_line(f"{raised}{type(error).__name__}: {error}")


def _used_gpu() -> bool:
    """Whether this process has used a GPU through torch: a forked child could not."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _run_child(parent: int, pipe: int, task: Task, budget: Budget) -> None:
    """All that the child does; it never returns."""
    report = Report(pipe, budget)
    try:
        become_child(parent, pipe)
        os.setsid()
        logging.getLogger(LOGGER).handlers[:] = [_LogToParent(report)]
        use_one_thread()
        limit_memory(budget.memory_bytes)
        limit_cpu(budget.cpu_seconds)
        task(report)
        report.write("done")
    except BaseException as error:  # SystemExit too: whatever a model raises, the parent gets a sentence
        with suppress(BaseException):
            report.write("failed", _failure(error, budget))
    finally:
        os._exit(0)


def _short_of_memory(budget: Budget) -> str:
    size = f"more than {budget.memory_bytes / 1e9:.3g} GB of" if budget.memory_bytes else "too much"
    return f"it needs {size} memory; give the process more, or set BERTH_LOAD_MEMORY_BYTES"


def _take(heard: _Heard, line: bytes, budget: Budget, say: Callable[[str], None]) -> None:
    """One line of the child's; what it should not say is skipped."""
    with suppress(ValueError, TypeError, AttributeError, KeyError, IndexError):
        document = json.loads(line)
        if "step" in document:
            doing, times = document["step"]
            heard.doing = one_line(doing)[:80]
            heard.deadline = time.monotonic() + budget.seconds * min(max(float(times), 0.0), 100.0)
        elif "say" in document:
            say(one_line(document["say"]))
        elif "log" in document:
            log(one_line(document["log"]), level=logging.WARNING)
        elif "failed" in document:
            kind, reason = document["failed"]
            heard.failed = str(kind), one_line(reason)
        elif "done" in document:
            heard.done = True


def _hear(heard: _Heard, pipe: int, budget: Budget, say: Callable[[str], None]) -> bool:
    """Read what is there; whether more may come."""
    if not select.select([pipe], [], [], _TICK_SECONDS)[0]:
        return True
    data = os.read(pipe, 65536)
    heard.size += len(data)
    *lines, heard.rest = (heard.rest + data).split(b"\n")
    for line in lines:
        _take(heard, line, budget, say)
    return bool(data) and heard.size <= _MOST_BYTES


def _end(pid: int) -> tuple[int, int]:
    """Kill the child and all it started; its wait status and the peak of its memory, in KiB."""
    for kill in (os.killpg, os.kill):  # it may not lead a group yet
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return status, usage.ru_maxrss


def _watch(pid: int, pipe: int, heard: _Heard, budget: Budget, say: Callable[[str], None]) -> tuple[int, int]:
    """Hear the child out, no longer than its deadline; its wait status and the peak of its memory, in KiB."""
    is_open = True
    try:
        while time.monotonic() < heard.deadline and heard.size <= _MOST_BYTES:
            if is_open:
                is_open = _hear(heard, pipe, budget, say)
            else:
                time.sleep(_TICK_SECONDS / 10)
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found:
                while is_open and select.select([pipe], [], [], 0)[0]:
                    is_open = _hear(heard, pipe, budget, say)
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # what it started and left behind
                return status, usage.ru_maxrss
    except BaseException:  # Ctrl-C
        _end(pid)
        raise
    heard.late = True
    return _end(pid)


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _explain(status: int, peak_kib: int, heard: _Heard, budget: Budget, began: float) -> str:
    """Why the child ended without success, for the operator, and what to do."""
    doing = f"while {heard.doing}"
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if heard.size > _MOST_BYTES:
        return f"wrote into its parent's pipe {doing}; its code does not keep to itself"
    if heard.late or number == signal.SIGXCPU:
        seconds = time.monotonic() - began
        return f"did not end within {seconds:.0f} s {doing}; set BERTH_LOAD_SECONDS if it needs longer"
    # What the parent had at the fork is in the peak, and no use of the model's.
    free = (budget.memory_bytes or math.inf) - heard.before_kib * 1024
    grown = (peak_kib - heard.before_kib) * 1024
    if number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL) and grown > max(free, 0) / 2:
        return f"ended by {_name_signal(number)} {doing}: {_short_of_memory(budget)}"
    if number == signal.SIGKILL:
        return f"was killed {doing}, probably because the machine has too little memory; give it more"
    if number:
        return (
            f"crashed with {_name_signal(number)} {doing}; the file is damaged, hostile or not for this version of "
            "its library: save it again where it was made"
        )
    return f"ended the process with exit code {os.WEXITSTATUS(status)} {doing}; take the exit out of its code"


def contain(
    name: str,
    task: Task,
    budget: Budget,
    doing: str,
    say: Callable[[str], None] = lambda text: None,
    meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Run `task` in a child that is `doing` something with the model `name`; `say` gets its lines for people.

    `meanwhile` is entered after the fork, for what needs a thread.

    Raises what the task raised, as one of the operator's errors; LoadError for a crash, an exit, or a limit.
    """
    import numpy  # noqa: F401 - before the fork, so that the next child does not import it again

    if _used_gpu():  # not the command line, nor a server: a program that adds models after it used torch itself
        task(Report(os.open(os.devnull, os.O_WRONLY), replace(budget, cpu_seconds=math.inf)))
        return
    read_end, write_end = os.pipe()
    parent, began = os.getpid(), time.monotonic()
    heard = _Heard(doing, began + budget.seconds, before_kib=_resident_kib())
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _run_child(parent, write_end, task, budget)
    os.close(write_end)
    try:
        with meanwhile():
            status, peak_kib = _watch(pid, read_end, heard, budget, say)
    finally:
        os.close(read_end)
    if heard.failed is not None:
        kind, reason = heard.failed
        raise _RAISED.get(kind, LoadError)(reason)
    if not heard.done or status != 0:
        raise LoadError(f"{name} {_explain(status, peak_kib, heard, budget, began)}")
