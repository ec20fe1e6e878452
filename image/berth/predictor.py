"""What a request does: wait for a place to compute, call the model, check and observe the answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from berth.errors import BerthError, DeadlineExceeded, PredictionFailed, RejectedByModel
from berth.logs import log
from berth.model import Model
from berth.schema import check_tensors
from berth.tensors import Array, Tensors

# Exceptions by which libraries say that the values were wrong, not the model.
_REFUSALS = (ValueError, TypeError)

# (model, seconds waited, seconds computed, rows, outputs)
Observe = Callable[[Model, float, float, int, dict[str, Array]], None]


class Predictor:
    """Calls models, at most `compute_slots` at once; the others wait their turn until their deadline."""

    def __init__(self, compute_slots: int, max_rows: int, observe: Observe = lambda *what: None) -> None:
        self._places = threading.Semaphore(compute_slots)
        self._max_rows = max_rows
        self._observe = observe

    def predict(self, model: Model, tensors: Tensors, outputs: Sequence[str], deadline: float) -> dict[str, Array]:
        """The wanted outputs, one row per input row. `deadline` is a `time.monotonic()`.

        Raises InvalidInput, RejectedByModel, PredictionFailed, DeadlineExceeded.
        """
        tensors = check_tensors(tensors, model.inputs, self._max_rows)
        began = time.monotonic()
        if not self._places.acquire(timeout=max(0.0, deadline - began)):
            raise DeadlineExceeded("the time ran out while the request waited for its turn; nothing was predicted")
        try:
            started = time.monotonic()
            if started >= deadline:
                raise DeadlineExceeded("the time ran out before the prediction began; nothing was predicted")
            answer = self._call(model, tensors, outputs)
        finally:
            self._places.release()
        ended = time.monotonic()
        rows = next(iter(tensors.values())).shape[0]
        self._observe(model, started - began, ended - started, rows, answer)
        if ended >= deadline:
            raise DeadlineExceeded("the prediction took longer than the request's time")
        return answer

    def _call(self, model: Model, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        try:
            return model.predict(tensors, outputs)
        except BerthError:
            raise
        except _REFUSALS as error:
            raise RejectedByModel(f"{model.name} refused these values: {' '.join(str(error).split())[:500]}") from error
        except Exception as error:
            log(f"{model.name}@{model.version} broke", level=logging.ERROR, error=repr(error))
            raise PredictionFailed(f"{model.name} failed on these values; the server's log has the reason") from error
