"""What a request does: look in the cache, wait for a place to compute, call the model, check and observe the outputs.

check -> cache.get -> [Batcher.submit | wait for a place -> model.predict] -> cache.put -> observe
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from berth.errors import BerthError, DeadlineExceeded, Stuck
from berth.models.model import Model
from berth.serving.backlog import Backlog, CallEstimate, Turn
from berth.serving.batching import Batcher
from berth.serving.cache import PredictionCache, encode_key
from berth.serving.counted_outputs import count_outputs
from berth.serving.failed_calls import explain_failure
from berth.serving.places import ComputePlaces
from berth.serving.tuning import BatchChoice, choose_batching, first_estimate, is_brief, is_quick, measure_row
from berth.telemetry.metrics.registry import Metrics, ModelMetrics
from berth.tensors.arrays import Array, Tensors
from berth.tensors.schema import check_tensors

# Up to so many rows, a model that is quick or brief with one row is so with all of them.
_FEW_ROWS = 64
_BLOCKED = "this worker computes predictions that have run past their time, and can begin no other; try again"


class WouldWait(Exception):
    """The caller said that it must not wait, and the result has to be waited for. Nothing was predicted or counted."""


class Prediction(NamedTuple):
    """The wanted outputs, one row per input row, and what the caller may want to know beside them.

    `age_seconds` is how long they had been in the cache, None where the model was called; `began` is a
    `time.monotonic()`.
    """

    outputs: dict[str, Array]
    rows: int
    age_seconds: float | None
    began: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """What belongs to one model while it is served."""

    metrics: ModelMetrics
    choice: BatchChoice
    batcher: Batcher | None
    estimate: CallEstimate
    quick: bool
    brief: bool


class Predictor:
    """Calls models, at most `compute_slots` at once (quick ones aside); the others wait until their deadline.

    `batch_max_rows` None decides for each model by measuring it; 1 is off. `cache` None is off. `log_values` False
    keeps what a model's exception says, which may quote a value, out of the log. The last two limit the wait.
    """

    def __init__(
        self,
        compute_slots: int,
        max_rows: int,
        metrics: Metrics | None = None,
        *,
        batch_max_rows: int | None = 1,
        batch_wait_seconds: float = 0.0,
        cache: PredictionCache | None = None,
        log_values: bool = True,
        max_wait_seconds: float | None = None,
        request_seconds: float = 30.0,
    ) -> None:
        self._slots = compute_slots
        self._places = ComputePlaces(compute_slots)
        self._backlog = Backlog(self._places, max_wait_seconds, request_seconds)
        # Every place is held by a call that has run past its time (`look_for_blocking`).
        self.blocked = False
        self._max_rows = max_rows
        self._metrics = metrics or Metrics()
        self._batch_max_rows = batch_max_rows
        self._batch_wait_seconds = batch_wait_seconds
        self._cache = cache
        self._log_values = log_values
        self._preparing = threading.Lock()
        self._prepared: dict[tuple[str, str], Prepared] = {}

    def prepare(self, model: Model, *, before_requests: bool = True) -> BatchChoice:
        """Decide, before the first request, whether waiting requests for `model` share calls, and what one takes."""
        classes = next((spec.labels for spec in model.outputs if spec.labels), ())
        metrics = self._metrics.bind(model.name, model.version, classes)
        cost = measure_row(model)
        choice = choose_batching(model, self._batch_max_rows, cost)
        estimate = self._backlog.add_model(choice.max_rows)
        if (seconds := first_estimate(model, cost, before_requests)) is not None:
            estimate.add(seconds, 1)
        batcher = self._make_batcher(model, metrics, estimate, choice) if choice.max_rows > 1 else None
        brief = is_brief(cost) and batcher is None
        prepared = Prepared(metrics, choice, batcher, estimate, is_quick(model, cost), brief)
        if (old := self._prepared.get((model.name, model.version))) is not None:
            self._backlog.forget(old.estimate)
        self._prepared[model.name, model.version] = prepared
        return choice

    def _make_batcher(
        self, model: Model, metrics: ModelMetrics, estimate: CallEstimate, choice: BatchChoice
    ) -> Batcher:
        def predict(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
            with self._places:
                return self._measure(model, metrics, estimate, tensors, outputs)

        return Batcher(
            predict,
            choice.max_rows,
            self._slots,
            self._batch_wait_seconds,
            on_wait=metrics.observe_queue,
            on_depth=metrics.set_queue_depth,
        )

    def look_for_blocking(self, seconds: float) -> bool:
        """Note and return whether every place is held by a call of more than `seconds`."""
        self.blocked = self._places.all_older(seconds)
        return self.blocked

    def choice(self, model: Model) -> BatchChoice:
        """What `prepare` decided."""
        return self._prepare_once(model).choice

    def may_answer_at_once(self, model: Model) -> bool:
        """Whether a request for `model` that must not wait has a chance; `predict` decides it for each."""
        prepared = self._prepared.get((model.name, model.version))
        return prepared is not None and (self._cache is not None or prepared.brief)

    def is_quick(self, name: str, version: str, rows: int) -> bool:
        """Whether so many rows of a prepared model are predicted before a thread could wait for its turn."""
        prepared = self._prepared.get((name, version))
        return prepared is not None and prepared.quick and rows <= _FEW_ROWS

    def _prepare_once(self, model: Model) -> Prepared:
        key = (model.name, model.version)
        if (prepared := self._prepared.get(key)) is not None:
            return prepared
        with self._preparing:
            if key not in self._prepared:
                self.prepare(model, before_requests=False)
        return self._prepared[key]

    def predict(
        self, model: Model, tensors: Tensors, outputs: Sequence[str], deadline: float, *, may_wait: bool = True
    ) -> Prediction:
        """The wanted outputs. `deadline` is a `time.monotonic()`; `may_wait` False raises rather than wait.

        Raises InvalidInput, RejectedByModel, PredictionFailed, DeadlineExceeded, Stuck, WouldWait.
        """
        began = time.monotonic()
        prepared = self._prepare_once(model)
        tensors = check_tensors(tensors, model.inputs, self._max_rows, model.batchable)
        if self._cache is not None and model.metadata.get("deterministic") is True:
            answer, made = self._look_up(self._cache, model, prepared, tensors, outputs, deadline, may_wait)
        else:
            answer, made = self._compute(model, prepared, tensors, outputs, deadline, may_wait), None
        count_outputs(model, prepared.metrics, answer)
        now = time.monotonic()
        if now >= deadline:
            raise DeadlineExceeded("the prediction took longer than the request's time limit")
        return Prediction(answer, _rows(tensors), None if made is None else now - made, began, now - began)

    def count_elsewhere(self, model: Model, tensors: Tensors, outputs: Mapping[str, Array], seconds: float) -> int:
        """Count a prediction that another process made in that time; its number of rows."""
        metrics, rows = self._prepare_once(model).metrics, _rows(tensors)
        metrics.observe_predict(seconds, rows)
        count_outputs(model, metrics, outputs)
        return rows

    def _look_up(
        self, cache: PredictionCache, model: Model, prepared: Prepared, tensors: Tensors, outputs: Sequence[str],
        deadline: float, may_wait: bool,
    ) -> tuple[dict[str, Array], float | None]:  # fmt: skip
        """The outputs, from the cache where it has them, with the time they were computed at (monotonic)."""
        key = encode_key(model.name, model.version, model.sha256, outputs, tensors)
        found = cache.get(key)
        answer = found.answer if found else self._compute(model, prepared, tensors, outputs, deadline, may_wait)
        prepared.metrics.count_cache(found is not None)
        if found is None:
            cache.put(key, answer)
        return answer, found.made if found else None

    def _compute(
        self,
        model: Model,
        prepared: Prepared,
        tensors: Tensors,
        outputs: Sequence[str],
        deadline: float,
        may_wait: bool,
    ) -> dict[str, Array]:
        """The model's outputs, in one of three ways.

        Shared with other requests where batching pays; at once, taking no place, where a few rows of a quick model are
        over before a thread could wait; else alone, with a place to compute.
        """
        few = _rows(tensors) <= _FEW_ROWS
        if not may_wait and not (prepared.brief and few):
            raise WouldWait
        if prepared.quick and few and prepared.batcher is None:
            return self._predict_at_once(model, prepared.metrics, tensors, outputs, deadline)
        if not may_wait:
            return self._predict_alone(model, prepared, tensors, outputs, deadline)
        if self.blocked:
            raise Stuck(_BLOCKED, headers={"Retry-After": "1"})
        turn = self._backlog.join(prepared.estimate, _rows(tensors))
        try:
            if prepared.batcher is not None:
                return prepared.batcher.submit(tensors, outputs, deadline, turn.end)
            return self._predict_alone(model, prepared, tensors, outputs, deadline, turn)
        finally:
            turn.end()

    def _predict_at_once(
        self, model: Model, metrics: ModelMetrics, tensors: Tensors, outputs: Sequence[str], deadline: float
    ) -> dict[str, Array]:
        """A call that takes no place: it is over before a thread could be put to sleep and woken again."""
        if time.monotonic() >= deadline:
            raise DeadlineExceeded("the request's time limit passed before the prediction began")
        metrics.observe_queue(0.0)
        return self._call(model, metrics, tensors, outputs)

    def _predict_alone(
        self,
        model: Model,
        prepared: Prepared,
        tensors: Tensors,
        outputs: Sequence[str],
        deadline: float,
        turn: Turn | None = None,
    ) -> dict[str, Array]:
        """A call that has a place to compute for itself; without a `turn` it must not wait for one."""
        began = time.monotonic()
        self._take_place(deadline - began, turn is not None)
        try:
            started = time.monotonic()
            if started >= deadline:
                raise DeadlineExceeded("the request's time limit passed before the prediction began")
            prepared.metrics.observe_queue(started - began)
            if turn is None:
                return self._call(model, prepared.metrics, tensors, outputs)
            turn.end()
            return self._measure(model, prepared.metrics, prepared.estimate, tensors, outputs)
        finally:
            self._places.give_back()

    def _take_place(self, seconds: float, may_wait: bool) -> None:
        """Wait for a place to compute, or find one free. Raises DeadlineExceeded, WouldWait."""
        if not may_wait:
            if not self._places.take():
                raise WouldWait
        elif not self._places.take(seconds):
            raise DeadlineExceeded("the request's time limit passed while it waited for its turn")

    def _measure(
        self, model: Model, metrics: ModelMetrics, estimate: CallEstimate, tensors: Tensors, outputs: Sequence[str]
    ) -> dict[str, Array]:
        """A call, whose time is what the next ones are expected to take."""
        rows = _rows(tensors)
        self._places.expect(estimate.seconds(1, rows))
        began = time.monotonic()
        try:
            return self._call(model, metrics, tensors, outputs)
        finally:
            estimate.add(time.monotonic() - began, rows)

    def _call(self, model: Model, metrics: ModelMetrics, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """One call of the model, timed and counted whether it succeeds or breaks."""
        began = time.monotonic()
        try:
            return model.predict(tensors, outputs)
        except BerthError:
            raise
        except (Exception, SystemExit) as error:  # an exit would end a thread
            raise explain_failure(model, tensors, error, self._log_values) from error
        finally:
            metrics.observe_predict(time.monotonic() - began, _rows(tensors))


def _rows(tensors: Tensors) -> int:
    first = next(iter(tensors.values()))
    return len(first) if first.ndim else 1
