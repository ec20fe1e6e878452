"""Every metric there is. Their values are kept and summed by metric_files.py."""

from __future__ import annotations

import math
import threading
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.registry import Collector

from berth.telemetry.metrics.buckets import DELAYS, ERRORS, ROWS, SECONDS, VALUES
from berth.telemetry.metrics.metric_files import collect, render, render_collectors
from berth.telemetry.metrics.updates import (
    join,
    make_adder,
    make_many_observer,
    make_observer,
    make_setter,
    make_summer,
)
from berth.tensors.arrays import Array

Mode = Literal["livesum", "livemin", "livemax"]
_Update = TypeVar("_Update", bound=Callable[..., None])
# A classifier may have thousands of classes, a metric may not: the rest is counted as `other`.
MOST_LABELS, OTHER = 50, "other"
_COMMON = ("model", "version", "slot")


# Statuses and reasons that a model's counters have from the start.
FIRST_STATUSES = (200, 429, 500, 504)
REJECTIONS = ("overloaded", "deadline_exceeded")


class Metrics:
    """The list of metrics. Make one per process, after the fork: two would write over each other's values.

    With `directory` (PROMETHEUS_MULTIPROC_DIR) `render` shows all workers, without it of this process.
    """

    def __init__(
        self, slot: str = "", directory: Path | None = None, registry: CollectorRegistry | None = None
    ) -> None:
        self.slot = slot
        self.registry = registry or CollectorRegistry()
        self._directory = directory
        self._lock = threading.Lock()
        self._bound: dict[tuple[str, str], ModelMetrics] = {}
        self._computed: list[Collector] = []
        self.requests = self._counter("berth_requests_total", "Responses to prediction requests.", "protocol", "status")
        self.request_seconds = self._histogram("berth_request_duration_seconds", "Request to response.", SECONDS)
        self.predict_seconds = self._histogram("berth_predict_duration_seconds", "One call of the model.", SECONDS)
        self.queue_seconds = self._histogram("berth_queue_duration_seconds", "Waiting for the model.", SECONDS)
        self.batch_rows = self._histogram("berth_batch_rows", "Rows in one call of the model.", ROWS)
        self.inflight = self._gauge("berth_inflight", "Predictions inside the server.", "livesum")
        self.queue_depth = self._gauge("berth_queue_depth", "Predictions that wait for the model.", "livesum")
        self.rejected = self._counter("berth_rejected_total", "Requests turned away.", "reason")
        self.cache = self._counter("berth_cache_total", "Look-ups in the prediction cache.", "result")
        self.info = self._gauge(
            "berth_model_info", "Always 1; what is served.", "livemax", "sha256", "format", "accelerated"
        )
        # One worker without its model is a server without it.
        self.ready = self._gauge("berth_model_ready", "1 when every worker has the model.", "livemin")
        self.load_seconds = self._gauge("berth_model_load_seconds", "Verifying to ready, slowest worker.", "livemax")
        self.predictions = self._counter("berth_predictions_total", "Rows by predicted class.", "label")
        self.prediction_value = self._histogram("berth_prediction_value", "Predicted values.", VALUES)
        self.payload_drops = self._counter(
            "berth_payload_log_dropped_total", "Payloads that the payload log lost.", "reason"
        )
        self.unusual = self._counter(
            "berth_unusual_values_total", "Values that the sample gave no reason to expect.", "feature", "kind"
        )
        self.watch_drops = self._counter(
            "berth_watch_dropped_rows_total", "Rows that were not counted for drift: too many at once."
        )
        self._declare_feedback()
        self._declare_experiments()

    def _declare_feedback(self) -> None:
        """What came true of earlier predictions."""
        self.feedback = self._counter("berth_feedback_total", "Labelled rows, right or wrong.", "result")
        self.confusion = self._counter(
            "berth_feedback_confusion_total", "Labelled rows by predicted and true class.", "predicted", "truth"
        )
        self.feedback_error = self._histogram("berth_feedback_error", "Predicted value minus true value.", ERRORS)
        self.squared_error = self._summary("berth_feedback_squared_error", "The square of that difference.")
        self.reward = self._summary("berth_feedback_reward", "What predictions were worth, 0 to 1.")
        self.feedback_delay = self._histogram("berth_feedback_delay_seconds", "Prediction to feedback.", DELAYS)
        self.reference = self._gauge(
            "berth_feedback_reference", "The figure that the model was added with.", "livemax", "metric"
        )

    def _declare_experiments(self) -> None:
        """The experiment file, and shadows; requests by arm are counted elsewhere (experiment_metrics.py)."""
        self.experiment_file_ok = self._gauge(
            "berth_experiment_file_ok", "0 while the experiment file cannot be used as it is.", "livemin"
        )
        self.shadow = self._counter("berth_shadow_total", "Requests that a shadow predicted again.", "result")
        self.shadow_seconds = self._histogram("berth_shadow_duration_seconds", "One call of a shadow.", SECONDS)
        self.shadow_difference = self._histogram("berth_shadow_difference", "Largest difference of numbers.", ERRORS)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*_COMMON, *labels), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, _COMMON, buckets=buckets, registry=self.registry)

    def _summary(self, name: str, text: str) -> Summary:
        return Summary(name, text, _COMMON, registry=self.registry)

    def _gauge(self, name: str, text: str, mode: Mode, *labels: str) -> Gauge:
        return Gauge(name, text, (*_COMMON, *labels), multiprocess_mode=mode, registry=self.registry)

    def bind(self, model: str, version: str, classes: Sequence[object] = ()) -> ModelMetrics:
        """A model's metrics; the same object every time. `classes` are the labels that its predictions may have.

        A request that is refused before its model is known counts under the empty name and version.
        """
        found = self._bound.get((model, version))
        if found is not None and not classes:
            return found
        with self._lock:
            found = self._bound.get((model, version))
            if found is None:
                found = self._bound[model, version] = ModelMetrics(self, model, version)
            if classes:
                found.declare(classes)
            return found

    def add_computed(self, collector: Collector) -> None:
        """Metrics that are computed when they are scraped, for all workers at once."""
        self._computed.append(collector)

    def read(self, prefix: str) -> list[tuple[str, dict[str, str], float]]:
        """The samples (name, labels, value) of the metrics that begin so, over all workers."""
        families = self.registry.collect() if self._directory is None else collect(self._directory)
        chosen = (sample for family in families if family.name.startswith(prefix) for sample in family.samples)
        return [(sample.name, sample.labels, sample.value) for sample in chosen]

    def render(self) -> bytes:
        """What /metrics returns."""
        if self._directory is not None:
            return render(self._directory, self._computed)
        return generate_latest(self.registry) + render_collectors(*self._computed)


class ModelMetrics:
    """One model's metrics. Labels are looked up once: doing so again doubles the cost of an update."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._metrics = metrics
        self._common = (model, version, metrics.slot)
        # Filled on first use, beyond what `begin_counters` makes.
        self._updates: dict[tuple[object, tuple[object, ...]], Any] = {}
        self._classes: dict[object, str] = {}
        self._requests: dict[tuple[str, int], Callable[[float, float], None]] = {}

    def declare(self, classes: Sequence[object]) -> None:
        """The labels that predictions may have; the first of very many are counted by name."""
        self._classes = {label: str(label) for label in classes[:MOST_LABELS]}

    def _update(self, make: Callable[[Any], _Update], metric: Any, *labels: object) -> _Update:
        """The function that updates a metric's series, made once."""
        found: _Update | None = self._updates.get((metric, labels))
        if found is None:
            found = self._updates[metric, labels] = make(metric.labels(*self._common, *labels))
        return found

    def begin_counters(self, protocols: Sequence[str]) -> None:
        """Start at 0 what can be counted of a model that is ready: a share of nothing is 0 then, and not unknown."""
        for protocol in protocols:
            for status in FIRST_STATUSES:
                self._update(make_adder, self._metrics.requests, protocol, status)(0)
        for reason in REJECTIONS:
            self._update(make_adder, self._metrics.rejected, reason)(0)
        for label in self._classes.values():
            self._update(make_adder, self._metrics.predictions, label)(0)

    def observe_request(self, protocol: str, status: int, seconds: float) -> None:
        """A request has its response, or is about to: count before the response leaves, and none goes uncounted."""
        if (found := self._requests.get((protocol, status))) is None:
            count = self._update(make_adder, self._metrics.requests, protocol, status)
            found = join(count, self._update(make_observer, self._metrics.request_seconds))
            self._requests[protocol, status] = found
        found(1, seconds)

    # What every request updates is an attribute from its first use: a look-up by metric and labels costs as much again.
    @cached_property
    def observe_predict(self) -> Callable[[float, float], None]:
        """The model was called once: seconds and rows."""
        seconds, rows = self._metrics.predict_seconds, self._metrics.batch_rows
        return join(self._update(make_observer, seconds), self._update(make_observer, rows))

    @cached_property
    def observe_queue(self) -> Callable[[float], None]:
        """A prediction has waited for the model, so many seconds."""
        return self._update(make_observer, self._metrics.queue_seconds)

    @cached_property
    def set_inflight(self) -> Callable[[float], None]:
        """How many predictions are inside this worker."""
        return self._update(make_setter, self._metrics.inflight)

    def reject(self, reason: str) -> None:
        """A request was turned away; `reason` is an error's code."""
        self._update(make_adder, self._metrics.rejected, reason)(1)

    def count_cache(self, hit: bool) -> None:
        """A prediction was looked up in the cache."""
        self._update(make_adder, self._metrics.cache, "hit" if hit else "miss")(1)

    def count_predictions(self, labels: Sequence[object]) -> None:
        """Predicted classes, one per row, as plain Python values (`array.tolist()`)."""
        counts = {labels[0]: 1} if len(labels) == 1 else Tally(labels)
        for label, rows in counts.items():
            self._update(make_adder, self._metrics.predictions, self._classes.get(label, OTHER))(rows)

    def observe_values(self, values: Sequence[float] | Array) -> None:
        """Predicted values, one per row, an array of shape [rows] or numbers; NaN and infinity are left out."""
        self._update(make_many_observer, self._metrics.prediction_value)(values)

    def set_queue_depth(self, count: int) -> None:
        """How many of them wait for the model."""
        self._update(make_setter, self._metrics.queue_depth)(count)

    def set_ready(self, ready: bool) -> None:
        """Whether this worker can predict with the model; say False when loading begins, or nothing is known."""
        self._update(make_setter, self._metrics.ready)(ready)

    def set_loaded(self, seconds: float, sha256: str, form: str, accelerated: bool) -> None:
        """The model was loaded, in how long and from what."""
        self._update(make_setter, self._metrics.load_seconds)(seconds)
        self._update(make_setter, self._metrics.info, sha256, form, str(accelerated).lower())(1)

    def count_payload_drops(self, reason: str, lines: int) -> None:
        """The payload log has lost so many requests."""
        self._update(make_adder, self._metrics.payload_drops, reason)(lines)

    def count_unusual(self, feature: str, kind: str, values: int) -> None:
        """Values of a feature were unusual; `kind` is one of profile.UNUSUAL."""
        self._update(make_adder, self._metrics.unusual, feature, kind)(values)

    def count_watch_drops(self, rows: int) -> None:
        """Rows were not counted for drift."""
        self._update(make_adder, self._metrics.watch_drops)(rows)

    def count_truths(self, predicted: str, truth: str, right: bool, rows: int) -> None:
        """So many rows had this class predicted, and that one was true."""
        self._update(make_adder, self._metrics.feedback, "right" if right else "wrong")(rows)
        self._update(make_adder, self._metrics.confusion, predicted, truth)(rows)

    def set_reference(self, metric: str, value: float) -> None:
        """The figure that the model was added with.

        For accuracy its labels are counted from 0: a first label of thousands must be an increase to Prometheus.
        """
        self._update(make_setter, self._metrics.reference, metric)(value)
        if metric == "accuracy":
            for result in ("right", "wrong"):
                self._update(make_adder, self._metrics.feedback, result)(0)

    def observe_errors(self, differences: Sequence[float]) -> None:
        """Numbers were predicted, so far (0 or more) from the true ones; what has no finite square is left out."""
        known = [difference for difference in differences if math.isfinite(difference * difference)]
        self._update(make_many_observer, self._metrics.feedback_error)(known)
        squares = sum(difference * difference for difference in known)
        self._update(make_summer, self._metrics.squared_error)(squares, len(known))

    def observe_reward(self, reward: float) -> None:
        """A prediction was worth so much, from 0 to 1."""
        self._update(make_summer, self._metrics.reward)(reward, 1)

    def observe_delay(self, seconds: float) -> None:
        """Feedback came so long after its prediction."""
        self._update(make_observer, self._metrics.feedback_delay)(seconds)

    def set_experiment_file(self, ok: bool) -> None:
        """Whether the experiment file is in force as it is now."""
        self._update(make_setter, self._metrics.experiment_file_ok)(ok)

    def count_shadow(self, result: str) -> None:
        """This version, a shadow, agreed, differed or failed, or its request was dropped."""
        self._update(make_adder, self._metrics.shadow, result)(1)

    def observe_shadow(self, seconds: float, differences: Sequence[float]) -> None:
        """This version, a shadow, was called once; its numbers were so far from those of the response."""
        self._update(make_observer, self._metrics.shadow_seconds)(seconds)
        if differences:
            self._update(make_many_observer, self._metrics.shadow_difference)(differences)
