"""What exists: the composition root. Everything is made here, handed its parts, and started by `Service.start`."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask

from berth import __version__
from berth.cpu import CpuPlan, plan_cpu, read_cpu_budget
from berth.errors import BerthError
from berth.load_settings import load_options
from berth.models.model import Model
from berth.models.store import Entry, select_models
from berth.serving.admission import Gate
from berth.serving.cache import PredictionCache
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import Lifecycle
from berth.serving.opening import installed_version, open_version
from berth.serving.predictor import Predictor
from berth.serving.trials import Trials
from berth.settings import Settings, parse_settings, read_environment, store_directory
from berth.telemetry import logs
from berth.telemetry.metrics.registry import SECONDS, Metrics
from berth.telemetry.payloads.payload_log import PayloadLog, open_sink, parse_options
from berth.telemetry.tracing import Tracing, make_tracing
from berth.web import predict, v2
from berth.web.auth import KeyRing
from berth.web.console import console_blueprint
from berth.web.edge import Edge, FlaskEdge
from berth.web.exchange import Exchange, current
from berth.web.express import Express, ExpressRoute
from berth.web.invocations import invocations_blueprint
from berth.web.openapi.document import ApiFacts, openapi_blueprint
from berth.web.ops import export_http_metrics, ops_blueprint
from berth.web.recording import Recorder
from berth.web.v1 import v1_blueprint

_WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Service:
    """What runs in one worker beside Flask; the gunicorn file starts it after the fork."""

    catalog: Catalog
    lifecycle: Lifecycle
    gate: Gate
    stuck_seconds: float
    trials: Trials
    payloads: PayloadLog | None = None
    tracing: Tracing | None = None
    express: Express | None = None

    def start(self, respawned: bool = False, notify: Callable[[], None] | None = None) -> None:
        """Load the models in the background and watch for stuck predictions.

        A gunicorn worker, which passes `notify`, has no threads yet and may fork: models are tried in a child first.
        """
        if notify is not None:
            self.trials.begin()
        self.catalog.start(respawned=respawned, notify=notify or (lambda: None))
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        if self.tracing is not None:
            self.tracing.start()

    def _watch(self) -> None:
        while True:
            self.lifecycle.mark_stuck(self.gate.oldest_seconds() > self.stuck_seconds)
            time.sleep(_WATCH_SECONDS)


def observe_requests(metrics: Metrics) -> Callable[[Exchange, int, float], None]:
    """What the edge calls when a request that could predict has been answered."""

    def observe(exchange: Exchange, status: int, seconds: float) -> None:
        name, version = (exchange.model.name, exchange.model.version) if exchange.model else ("", "")
        metrics.bind(name, version).observe_request(exchange.protocol, status, seconds)

    return observe


def note_answer(rows: int, age_seconds: float | None, began: float) -> None:
    """What the predictor calls when a request has its answer."""
    exchange = current()
    exchange.rows += rows
    exchange.age_seconds = age_seconds
    exchange.calls.append((began, time.monotonic() - began))


def prepare_models(metrics: Metrics, predictor: Predictor) -> Callable[[Model], None]:
    """What the catalog calls when a model has been loaded, before it is ready."""

    def prepare(model: Model) -> None:
        predictor.prepare(model)
        bound = metrics.bind(model.name, model.version)
        bound.set_loaded(model.load_seconds, model.sha256, model.format, model.accelerated)
        bound.set_ready(True)

    return prepare


def open_payload_log(settings: Settings, metrics: Metrics) -> PayloadLog | None:
    """The payload log, where it is on. Raises SettingsError."""
    options = parse_options(settings.payload_log)
    if options is None:
        return None
    return PayloadLog(options, open_sink(options), metrics.bind("", "").count_payload_drops)


def _facts(settings: Settings) -> dict[str, Any]:
    libraries = ("numpy", "scikit-learn", "onnxruntime", "torch")
    return {
        "berth": __version__,
        "slot": settings.slot,
        "fingerprint": settings.fingerprint,
        "started_at": logs.timestamp(),
        "libraries": {name: version for name in libraries if (version := installed_version(name))},
    }


def make_predictor(settings: Settings, plan: CpuPlan, metrics: Metrics) -> Predictor:
    """What calls the models, with the cache and the batching that the settings ask for."""
    return Predictor(
        plan.compute_slots,
        settings.max_rows,
        metrics,
        batch_max_rows=settings.batch_max_rows,
        batch_wait_seconds=settings.batch_wait_ms / 1000,
        cache=PredictionCache(settings.cache_bytes) if settings.cache_bytes else None,
        note=note_answer,
        may_wait=lambda: current().may_wait,
    )


def make_catalog(
    settings: Settings,
    entries: Sequence[Entry],
    lifecycle: Lifecycle,
    metrics: Metrics,
    predictor: Predictor,
    trials: Trials,
) -> Catalog:
    """The chosen versions, none of them loaded yet."""
    options = load_options(settings)
    for entry in entries:
        metrics.bind(entry.name, entry.version).set_ready(False)
    return Catalog(
        entries,
        lambda entry: open_version(entry, options, settings.version_policy),
        lifecycle,
        on_ready=prepare_models(metrics, predictor),
        allow=trials.allow,
        on_loaded=trials.end,
        exit_on_failure=settings.exit_on_load_failure,
    )


def choose_entries(settings: Settings) -> list[Entry]:
    """The versions that the settings choose from the store. Raises StoreError."""
    return select_models(store_directory(settings), settings.models, settings.model_version)


def make_edge(settings: Settings, plan: CpuPlan, metrics: Metrics) -> Edge:
    """What happens to every request."""
    unbound = metrics.bind("", "")
    return Edge(
        gate=Gate(plan.max_inflight, unbound.set_inflight),
        keys=KeyRing(Path(settings.api_keys_file)) if settings.api_keys_file else None,
        timeout_seconds=settings.request_timeout_seconds,
        slot=settings.slot,
        log_format=settings.log_format or "json",
        protect_metrics=settings.protect_metrics,
        observe=observe_requests(metrics),
        reject=unbound.reject,
    )


def express_routes(catalog: Catalog, predictor: Predictor, max_body_bytes: int) -> dict[str, ExpressRoute]:
    """The routes that do without Flask: /predict, and V2's infer of each model's default version."""

    def at_once(name: str | None) -> bool:
        try:
            return predictor.may_answer_at_once(catalog.resolve(name))
        except BerthError:  # not loaded: the view tells
            return False

    answer = partial(predict.answer, catalog, predictor, max_body_bytes)
    routes = {"/predict": ExpressRoute("/predict", "predict", answer, partial(at_once, None))}
    for name in dict.fromkeys(entry.name for entry in catalog.entries):
        infer = partial(v2.answer, catalog, predictor, max_body_bytes, name)
        rule = "/v2/models/<name>/infer"
        routes[f"/v2/models/{name}/infer"] = ExpressRoute(rule, "v2", infer, partial(at_once, name))
    return routes


def make_flask(
    settings: Settings, catalog: Catalog, predictor: Predictor, lifecycle: Lifecycle, metrics: Metrics
) -> Flask:
    """Every route, with nothing around them yet."""
    app = Flask("berth", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    most, rows = settings.max_body_bytes, settings.max_rows
    facts = ApiFacts(__version__, bool(settings.api_keys_file), settings.protect_metrics)
    for blueprint in (
        predict.predict_blueprint(catalog, predictor, most),
        v2.v2_blueprint(catalog, predictor, lifecycle, most),
        v1_blueprint(catalog, predictor, lifecycle, most),
        invocations_blueprint(catalog, predictor, lifecycle, most, rows),
        ops_blueprint(catalog, predictor, lifecycle, _facts(settings), metrics.render),
        openapi_blueprint(catalog.models, facts),
        console_blueprint(catalog, lifecycle),
    ):
        app.register_blueprint(blueprint)
    return app


def create_app(environ: Mapping[str, str] | None = None) -> Flask:
    """The WSGI application. Nothing is loaded and no thread runs before `extensions["berth"].start`.

    Raises SettingsError, StoreError: then the server must not start.
    """
    environ = read_environment() if environ is None else environ
    settings = parse_settings(environ)
    logs.configure(settings.log_level, settings.log_format or "json")
    run_dir = Path(settings.run_dir or tempfile.mkdtemp(prefix="berth-"))
    plan = plan_cpu(
        read_cpu_budget().limit, settings.workers, settings.cpu_threads, settings.max_inflight, settings.threads
    )
    metrics_dir = run_dir / "metrics"
    metrics = Metrics(settings.slot, metrics_dir if metrics_dir.is_dir() else None)
    entries = choose_entries(settings)
    lifecycle = Lifecycle(run_dir, plan.workers, [entry.key for entry in entries])
    trials = Trials(run_dir, plan.workers, entries, load_options(settings), settings.version_policy)
    predictor = make_predictor(settings, plan, metrics)
    catalog = make_catalog(settings, entries, lifecycle, metrics, predictor, trials)
    edge = make_edge(settings, plan, metrics)
    payloads, tracing = open_payload_log(settings, metrics), make_tracing(environ, __version__)
    recorder = Recorder(settings.slot, payloads, tracing) if payloads or tracing else None

    app = make_flask(settings, catalog, predictor, lifecycle, metrics)
    observe_http = export_http_metrics(app, metrics.registry, SECONDS)
    FlaskEdge(edge, recorder).install(app)
    express = None
    if recorder is None:  # a recorder wants to see Flask's request and response
        routes = express_routes(catalog, predictor, settings.max_body_bytes)
        express = app.wsgi_app = Express(app.wsgi_app, edge, routes, observe_http)  # type: ignore[method-assign]
    app.extensions["berth"] = Service(
        catalog, lifecycle, edge.gate, settings.stuck_seconds, trials, payloads, tracing, express
    )
    return app
