"""What `berth consume` is made of: brokers, the server's own parts, and the loop over both."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from berth.app import create_app
from berth.consuming.answering_process import Answer, AnsweringProcess
from berth.consuming.batch_notes import BatchNotes
from berth.consuming.broker_messages import RESULTS, Message, MessageOutcome
from berth.consuming.broker_options import KAFKA, Place, kafka_options, redis_options
from berth.consuming.careful_answers import CarefulAnswers
from berth.consuming.consumer_loop import (
    AtLeastOnce,
    BatchLimits,
    ConsumerLoop,
    Delivery,
    LoopReport,
    MessageSink,
    MessageSource,
)
from berth.consuming.counted_apart import count_apart
from berth.consuming.kafka_client import import_kafka, make_producer
from berth.consuming.kafka_topics import KafkaSink, KafkaSource, KafkaTransactions
from berth.consuming.logged_messages import LoggedMessages
from berth.consuming.message_answers import PROTOCOL, MessageAnswers
from berth.consuming.patience import BrokerPatience
from berth.consuming.redis_streams import RedisServer, RedisSink, RedisSource, import_redis
from berth.errors import BerthError, OperatorError, SettingsError
from berth.models.model import Model
from berth.serving.lifecycle import FAILED
from berth.settings import Settings, encode_settings
from berth.telemetry.metrics.consumer_metrics import ConsumerMetrics
from berth.telemetry.metrics.registry import Metrics
from berth.web.pipeline import Pipeline
from berth.worker.service import Service

_LOAD_POLL_SECONDS = 0.2
# Of the age at which /livez reports a prediction as stuck: before that, a batch that does not end is given up.
_STUCK_SHARE = 0.8


@dataclass(frozen=True)
class Route:
    """From where to where, and how: `dead` is None where refused messages are only logged."""

    source: Place
    sink: Place
    dead: Place | None
    group: str
    exactly_once: bool
    limits: BatchLimits
    claim_seconds: float


def _places(route: Route) -> list[Place]:
    return [route.source, route.sink, *([route.dead] if route.dead else [])]


def check_route(route: Route, environ: Mapping[str, str]) -> None:
    """That the brokers' clients are installed, and the guarantee can be given. Raises SettingsError."""
    kafka_options(environ), redis_options(environ)
    for place in _places(route):
        if place.kind == KAFKA:
            import_kafka(place)
        else:
            import_redis(place)
    if not route.exactly_once:
        return
    for place in _places(route):
        if route.source.kind != KAFKA or place.key != route.source.key:
            raise SettingsError(
                f"--guarantee exactly-once is a transaction of one Kafka cluster, with the same brokers in every "
                f"kafka:// address; {place} is not on that of {route.source}"
            )


class _Brokers:
    """The connections of a route; places on one broker share theirs."""

    def __init__(self, route: Route, environ: Mapping[str, str], patience: BrokerPatience) -> None:
        self._route, self._patience = route, patience
        self._kafka, self._redis = kafka_options(environ), redis_options(environ)
        self._shared: dict[tuple[Any, ...], Any] = {}

    def _share(self, place: Place, make: Callable[[], Any]) -> Any:
        if place.key not in self._shared:
            self._shared[place.key] = make()
        return self._shared[place.key]

    def _server(self, place: Place) -> RedisServer:
        server: RedisServer = self._share(place, lambda: RedisServer(place, self._redis, self._patience))
        return server

    def _producer(self, place: Place) -> Any:
        name = f"berth-{self._route.group}-{uuid.uuid4()}" if self._route.exactly_once else ""
        return self._share(place, lambda: make_producer(place, self._kafka, self._patience, name))

    def open_source(self) -> MessageSource:
        """Where messages come from."""
        route, place = self._route, self._route.source
        if place.kind == KAFKA:
            return KafkaSource(place, route.group, self._kafka, self._patience)
        consumer = f"{socket.gethostname()}-{os.getpid()}"
        return RedisSource(self._server(place), place.name, route.group, consumer, route.claim_seconds)

    def open_sink(self, place: Place) -> KafkaSink | RedisSink:
        """Where messages go."""
        if place.kind == KAFKA:
            return KafkaSink(place, self._producer(place), self._patience)
        return RedisSink(self._server(place), place.name, place.max_entries)

    def open_delivery(self, source: MessageSource) -> Delivery:
        """What sends and commits, as the guarantee says."""
        route = self._route
        sink: Any = self.open_sink(route.sink)
        dead: Any = None if route.dead is None else self.open_sink(route.dead)
        if route.exactly_once and isinstance(source, KafkaSource):
            return KafkaTransactions(source, self._producer(route.sink), sink, dead, self._patience)
        sinks: tuple[MessageSink, MessageSink | None] = (sink, dead)
        return AtLeastOnce(source, *sinks)


def observe_batches(predict: Answer, pipeline: Pipeline, metrics: Metrics, model: Model) -> Answer:
    """What predicts, inside the gate, so that /livez sees a prediction that does not end, and counted as requests."""
    bound = metrics.bind(model.name, model.version)

    def answer(messages: Sequence[Message]) -> list[MessageOutcome]:
        began, status = time.monotonic(), 500
        ticket = pipeline.gate.enter()
        try:
            outcomes = predict(messages)
            status = 200
            return outcomes
        except BerthError as error:
            status = error.status
            raise
        finally:
            pipeline.gate.leave(ticket)
            bound.observe_request(PROTOCOL, status, time.monotonic() - began)

    return answer


def notes_folder(given: str) -> Path:
    """Where notes of batches are: in the run directory that was given, or where the next process finds them as well."""
    return Path(given, "consuming") if given else Path(tempfile.gettempdir(), f"berth-consuming-{os.getuid()}")


def process_apart(environ: Mapping[str, str], settings: Settings) -> AnsweringProcess:
    """The same model in a process of its own, which serves nothing and records nothing."""
    folder = Path(settings.run_dir, "apart")
    own = replace(settings, run_dir=str(folder), watch_minutes=0, payload_log="", experiment_file="")
    given = {name: value for name, value in environ.items() if not name.startswith("BERTH_")}
    command = [sys.executable, "-m", "berth.cli.answer_apart"]
    return AnsweringProcess(command, given | encode_settings(own), settings.stuck_seconds * _STUCK_SHARE)


class ConsumerParts:
    """A server's parts without its server. Raises SettingsError, StoreError."""

    def __init__(self, environ: Mapping[str, str], settings: Settings) -> None:
        app = create_app(environ)
        self.service: Service = app.extensions["berth"]
        self.pipeline: Pipeline = app.extensions["berth.pipeline"]
        self._metrics: Metrics = app.extensions["berth.metrics"]
        self._environ, self._settings = environ, settings

    def load(self, stop: threading.Event) -> Model | None:
        """The model, once it is loaded; None where the stop came first. Raises OperatorError."""
        service, entry = self.service, self.service.catalog.entries[0]
        service.start()
        while not service.catalog.wait(_LOAD_POLL_SECONDS):
            if stop.is_set():
                return None
        state = service.lifecycle.states[entry.key]
        if state.state == FAILED:
            raise OperatorError(f"{entry.key} could not be loaded: {state.reason}")
        return service.catalog.resolve(entry.name, entry.version)

    def _careful(self, model: Model, answers: MessageAnswers, notes: BatchNotes) -> CarefulAnswers:
        process = process_apart(self._environ, self._settings)
        ways = (answers.answer, count_apart(process.answer, answers, self.pipeline.backend, model))
        usual, apart = (observe_batches(way, self.pipeline, self._metrics, model) for way in ways)
        return CarefulAnswers(notes, usual, apart, process, answers.give_up)

    def make_loop(self, model: Model, route: Route, stop: threading.Event, notes: BatchNotes) -> ConsumerLoop:
        """The loop, connected to nothing yet that is not there. Raises SettingsError, BrokerError."""
        settings = self._settings
        brokers = _Brokers(route, self._environ, BrokerPatience(stop, settings.graceful_timeout_seconds))
        source = brokers.open_source()
        delivery = brokers.open_delivery(source)
        consumer = ConsumerMetrics(self._metrics.registry, (model.name, model.version, settings.slot), RESULTS)
        answers = MessageAnswers(self.pipeline.backend, model)
        report = LoopReport(consumer.count, consumer.set_lag)
        if (recorder := self.pipeline.recorder) is not None and recorder.payloads is not None:
            logged = LoggedMessages(recorder.payloads, answers, model, settings.slot)
            report = replace(report, keep=logged.keep, hides_errors=recorder.redacts)
        careful = self._careful(model, answers, notes)
        return ConsumerLoop(source, delivery, careful, route.limits, report, stop, keeps_dead=route.dead is not None)
