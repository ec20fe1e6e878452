"""`python -m berth.cli.answer_apart PID`: what a consumer starts for messages on which the model may crash.

The environment is the consumer's, with a run directory of its own; see consuming/answering_process.py.
"""

from __future__ import annotations

import resource
import sys
import threading

from berth.cli.consumer_parts import ConsumerParts
from berth.consuming.answering_process import serve_pipes, take_pipes
from berth.consuming.message_answers import MessageAnswers
from berth.serving.memory import free_memory
from berth.settings import Settings, parse_settings, read_environment

_MEMORY_SHARE = 0.8


def _room(settings: Settings) -> int | None:
    """Bytes that the model and a batch may take, so that an allocation fails before the kernel ends a process."""
    if settings.load_memory_bytes is not None:
        return settings.load_memory_bytes
    free = free_memory()
    return None if free is None else int(free * _MEMORY_SHARE)


def main(parent: int) -> None:
    """Predict for what comes, until the pipe is closed. Raises BerthError where the model cannot be loaded."""
    environ = read_environment()
    settings = parse_settings(environ)
    pipes = take_pipes(parent, _room(settings))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parts = ConsumerParts(environ, settings)
    model = parts.load(threading.Event())
    if model is not None:
        serve_pipes(*pipes, MessageAnswers(parts.pipeline.backend, model).answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
