"""What a forked child does to itself before it touches a model file: leaves the parent's things, sets its limits."""

from __future__ import annotations

import faulthandler
import gc
import logging
import math
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

# The highest descriptor that is closed in the child; a server's limit may be a million.
_MOST_FILES = 1 << 16
_PR_SET_PDEATHSIG = 1


def limit_cpu(seconds: float) -> None:
    """SIGXCPU ends the process after so much more CPU time of its own."""
    if seconds < math.inf:
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _data_bytes() -> int:
    """Private writable memory that this process has already, which RLIMIT_DATA counts."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0


def limit_memory(most: int | None) -> None:
    """An allocation beyond `most` more bytes fails; and if the machine runs out, this process is the one to go."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    if most is not None:
        limit = _data_bytes() + most
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def end_with_parent(parent: int) -> None:
    """On Linux the kernel kills this process when the one that forked it ends, however that ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was quicker
            os._exit(1)


def become_child(parent: int, *keep: int) -> None:
    """Leave behind what belongs to the parent: its signals, output, connections and logs; no core files."""
    end_with_parent(parent)
    faulthandler.disable()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = _MOST_FILES if most == resource.RLIM_INFINITY else min(most, _MOST_FILES)
    edges = [2, *sorted(keep), most]
    for low, high in pairwise(edges):
        os.closerange(low + 1, high)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    logging.getLogger().handlers[:] = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What the parent made stays shared: a collection would touch, and so copy, all of it.
    gc.freeze()


def use_one_thread() -> None:
    """OpenMP's threads are not in the child, though a library that used them in the parent would wait for them."""
    loaded: Mapping[str, Any] = sys.modules
    if {"sklearn", "xgboost", "lightgbm", "torch"} & loaded.keys():
        import threadpoolctl

        threadpoolctl.threadpool_limits(1, "openmp")
    if "torch" in loaded:
        loaded["torch"].set_num_threads(1)
    if "lightgbm" in loaded:
        loaded["lightgbm"].basic._LIB.LGBM_SetMaxThreads(1)
