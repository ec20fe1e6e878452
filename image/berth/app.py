"""What exists: the composition root. Everything is made here, handed its parts, and started by `Service.start`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask

from berth import __version__
from berth.cpu import CpuPlan
from berth.cpu_settings import plan_settings
from berth.errors import BerthError
from berth.experiments.live import CountPlaces, LiveExperiments, open_experiments
from berth.experiments.peers import parse_peers
from berth.experiments.shadowing import ShadowQueue
from berth.load_settings import load_options
from berth.models.model import Model
from berth.models.profile import decode_profile
from berth.models.signing import read_public_keys
from berth.models.store import Entry, read_manifest, select_models
from berth.platforms import platform_routes
from berth.serving.admission import Gate
from berth.serving.cache import PredictionCache
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import Lifecycle
from berth.serving.opening import installed_version, open_version
from berth.serving.predictor import Predictor
from berth.serving.trials import Trials
from berth.settings import Settings, parse_settings, read_environment, store_directory
from berth.telemetry import logs
from berth.telemetry.drift.monitor import DriftMonitor
from berth.telemetry.drift.watcher import Watched
from berth.telemetry.feedback.quality import describe_quality, read_reference
from berth.telemetry.feedback.receipts import ReceiptBook
from berth.telemetry.feedback.tally import FeedbackTally
from berth.telemetry.metrics.buckets import SECONDS
from berth.telemetry.metrics.drift_metrics import DriftCollector
from berth.telemetry.metrics.experiment_metrics import ExperimentCollector
from berth.telemetry.metrics.registry import Metrics, ModelMetrics
from berth.telemetry.payloads.payload_log import PayloadLog, open_sink, parse_options
from berth.telemetry.tracing import Tracing, make_tracing
from berth.web.auth import KeyRing
from berth.web.cors import make_cors
from berth.web.counting import bind_model, observe_requests, shadow_with
from berth.web.direct import put_in_front
from berth.web.endpoints import ENDPOINTS
from berth.web.exchange import ApiFacts, Backend, Endpoint, Exchange
from berth.web.flask_routes import add_routes, make_flask
from berth.web.http_metrics import export_http_metrics
from berth.web.pipeline import Observe, Pipeline
from berth.web.platform_endpoints import platform_endpoints
from berth.web.recording import Recorder
from berth.web.streams import StreamAnswers
from berth.worker.inline import InlineAnswers
from berth.worker.service import Service, WatchLimits

if TYPE_CHECKING:
    from berth.rpc.rpc_server import RpcServer


def prepare_models(metrics: Metrics, predictor: Predictor) -> Callable[[Model], None]:
    """What the catalog calls when a model has been loaded, before it is ready."""

    def prepare(model: Model) -> None:
        predictor.prepare(model)
        bound = metrics.bind(model.name, model.version)
        bound.begin_counters(sorted({endpoint.protocol for endpoint in ENDPOINTS if endpoint.protocol}))
        bound.set_loaded(model.load_seconds, model.sha256, model.format, model.accelerated)
        bound.set_queue_depth(0)  # an autoscaler must find it, also of a model that is never batched
        bound.set_ready(True)
        for metric, value in read_reference(model.metadata).items():
            bound.set_reference(metric, value)

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


def make_predictor(settings: Settings, plan: CpuPlan, metrics: Metrics, log_values: bool) -> Predictor:
    """What calls the models, with the cache and the batching that the settings call for."""
    return Predictor(
        plan.compute_slots,
        settings.max_rows,
        metrics,
        batch_max_rows=settings.batch_max_rows,
        batch_wait_seconds=settings.batch_wait_ms / 1000,
        cache=PredictionCache(settings.cache_bytes) if settings.cache_bytes else None,
        log_values=log_values,
        max_wait_seconds=None if settings.max_wait_ms is None else settings.max_wait_ms / 1000,
        request_seconds=settings.request_timeout_seconds,
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


def _watch_version(entry: Entry, metrics: Metrics) -> Watched | None:
    """What is watched of a version; None without a profile, or where the version will not load anyway."""
    try:
        manifest = read_manifest(entry)
        profile = decode_profile(manifest.metadata)
    except BerthError:
        return None
    bound = metrics.bind(entry.name, entry.version)
    if profile is None:
        return None
    return Watched(manifest.inputs, profile, bound.count_unusual, bound.count_watch_drops)


def make_drift(settings: Settings, run_dir: Path, metrics: Metrics) -> DriftMonitor | None:
    """What counts requests for drift, and its metrics; None where watching is off."""
    if not settings.watch_minutes:
        return None
    found = {(entry.name, entry.version): _watch_version(entry, metrics) for entry in choose_entries(settings)}
    watched = {key: each for key, each in found.items() if each is not None}
    monitor = DriftMonitor(run_dir / "drift", watched, settings.watch_minutes, settings.watch_rows)
    metrics.add_computed(DriftCollector(monitor.report, settings.slot))
    return monitor


def make_experiments(
    settings: Settings, entries: Sequence[Entry], run_dir: Path, metrics: Metrics
) -> LiveExperiments | None:
    """The experiments, where there is a file with some. Raises SettingsError."""
    book = ReceiptBook(Path(settings.feedback_key_file)) if settings.feedback_key_file else None
    secrets = (lambda: book.secrets) if book else tuple[bytes, ...]
    places = CountPlaces(run_dir / "experiments", parse_peers(settings.peers), settings.experiment_state_dir, secrets)
    on_read = metrics.bind("", "").set_experiment_file
    live = open_experiments(settings.experiment_file, entries, on_read, places)
    if live is not None:
        metrics.add_computed(ExperimentCollector(live.report, settings.slot, live.count_requests))
    return live


def make_tally(settings: Settings, metrics: Metrics) -> FeedbackTally:
    """What makes receipts, where there is a secret to sign them with, and counts feedback. Raises SettingsError."""
    book = ReceiptBook(Path(settings.feedback_key_file)) if settings.feedback_key_file else None
    return FeedbackTally(metrics.bind, book, settings.slot)


def make_recorder(settings: Settings, payloads: PayloadLog | None, tracing: Tracing | None) -> Recorder | None:
    """What keeps prediction requests for others to read; None where nothing does."""
    return Recorder(settings.slot, payloads, tracing) if payloads or tracing else None


def make_backend(
    settings: Settings,
    catalog: Catalog,
    predictor: Predictor,
    lifecycle: Lifecycle,
    metrics: Metrics,
    drift: DriftMonitor | None,
    experiments: LiveExperiments | None,
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> Backend:
    """What replies are made from."""
    return Backend(
        catalog,
        predictor,
        lifecycle,
        settings.max_body_bytes,
        settings.max_rows,
        ApiFacts(__version__, bool(settings.api_keys_file), settings.protect_metrics),
        endpoints,
        _facts(settings),
        metrics.render,
        make_tally(settings, metrics),
        lambda: describe_quality(metrics.read("berth_feedback")),
        drift,
        experiments,
    )


def make_pipeline(
    settings: Settings,
    backend: Backend,
    gate: Gate,
    observe: Observe,
    bind: Callable[[Exchange], ModelMetrics],
    recorder: Recorder | None,
) -> Pipeline:
    """What happens to every request."""
    return Pipeline(
        backend,
        gate,
        KeyRing(Path(settings.api_keys_file)) if settings.api_keys_file else None,
        settings.request_timeout_seconds,
        settings.slot,
        settings.log_format or "json",
        observe,
        lambda exchange, reason: bind(exchange).reject(reason),
        recorder,
        make_cors(settings.cors_origins),
    )


def make_rpc(settings: Settings, plan: CpuPlan, pipeline: Pipeline) -> RpcServer | None:
    """The gRPC server, where it is on. Raises SettingsError."""
    if not settings.grpc_port:
        return None
    from berth.rpc.rpc_server import RpcServer

    return RpcServer(pipeline, settings.host, settings.grpc_port, plan.max_inflight, settings.max_body_bytes)


def create_app(environ: Mapping[str, str] | None = None) -> Flask:
    """The WSGI application. Nothing is loaded and no thread runs before `extensions["berth"].start`.

    Raises SettingsError, StoreError: then the server must not start.
    """
    environ = read_environment() if environ is None else environ
    settings = parse_settings(environ)
    logs.configure(settings.log_level, settings.log_format or "json")
    run_dir = Path(settings.run_dir or tempfile.mkdtemp(prefix="berth-"))
    plan = plan_settings(settings)
    metrics_dir = run_dir / "metrics"
    metrics = Metrics(settings.slot, metrics_dir if metrics_dir.is_dir() else None)
    entries = choose_entries(settings)
    read_public_keys(load_options(settings).signature_keys)  # a server whose keys cannot be read must not start
    lifecycle = Lifecycle(run_dir, plan.workers, [entry.key for entry in entries])
    trials = Trials(run_dir, plan.workers, entries, load_options(settings), settings.version_policy)
    payloads, tracing = open_payload_log(settings, metrics), make_tracing(environ, __version__)
    predictor = make_predictor(settings, plan, metrics, log_values=payloads is None or not payloads.redacts)
    catalog = make_catalog(settings, entries, lifecycle, metrics, predictor, trials)
    drift = make_drift(settings, run_dir, metrics)
    experiments = make_experiments(settings, entries, run_dir, metrics)
    endpoints = (*ENDPOINTS, *platform_endpoints(platform_routes(environ), ENDPOINTS))
    backend = make_backend(settings, catalog, predictor, lifecycle, metrics, drift, experiments, endpoints)
    gate = Gate(plan.max_inflight, metrics.bind("", "").set_inflight)

    app = make_flask()
    bind = bind_model(metrics, catalog)
    shadows = ShadowQueue(lambda: gate.inside > 0)
    observe_http = export_http_metrics(app, metrics.registry, SECONDS)
    observe = observe_requests(bind, observe_http, shadow_with(shadows, catalog, predictor, metrics))
    recorder = make_recorder(settings, payloads, tracing)
    pipeline = make_pipeline(settings, backend, gate, observe, bind, recorder)
    add_routes(app, pipeline)
    app.wsgi_app = put_in_front(app.wsgi_app, pipeline)  # type: ignore[method-assign,assignment]
    limits = WatchLimits(settings.stuck_seconds, settings.request_timeout_seconds)
    streams, rpc = StreamAnswers(pipeline, settings.max_body_bytes), make_rpc(settings, plan, pipeline)
    parts = (trials, payloads, tracing, InlineAnswers(pipeline), drift, experiments, streams, rpc, shadows)
    app.extensions["berth"] = Service(catalog, lifecycle, gate, predictor, limits, *parts)
    app.extensions["berth.pipeline"], app.extensions["berth.metrics"] = pipeline, metrics  # for consumers
    return app
