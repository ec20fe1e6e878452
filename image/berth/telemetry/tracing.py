"""Spans of prediction requests over OTLP, where the extra `otel` is installed; nothing is imported otherwise.

The provider has a thread, so it is made by `start`, after the fork. The SDK reads the other OTEL_* variables itself.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from berth.telemetry.logs import log
from berth.telemetry.unhurried import Unhurried

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_LIBRARIES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_CLOSE_SECONDS = 3.0


def traces_url(environ: Mapping[str, str]) -> str:
    """Where spans are sent: the traces' own endpoint as it stands, or the general one's path for traces."""
    if own := environ.get(_TRACES_ENDPOINT, "").strip():
        return own
    general = environ.get(ENDPOINT, "").strip()
    return f"{general.rstrip('/')}/v1/traces" if general else ""


def is_installed(library: str) -> bool:
    """Whether a dotted module can be imported."""
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


class Tracing:
    """Makes spans; before `start` has run, or where it failed, it makes none."""

    def __init__(self, url: str, version: str) -> None:
        self._url = url
        self._version = version
        self._lock = threading.Lock()
        self._provider: Any = None
        self._tracer: Any = None

    def start(self) -> None:
        """Import the SDK and make the provider; spans that cannot be sent must not keep a server from starting."""
        with self._lock:
            if self._provider is not None:
                return
            try:
                self._provider = _make_provider(self._url, self._version)
                self._tracer = self._provider.get_tracer("berth", self._version)
            except Exception as error:  # the SDK loads whatever exporters and samplers are named in the environment
                log("no traces: the OpenTelemetry SDK did not start", level=logging.WARNING, error=repr(error))
            else:
                atexit.register(self.close)

    def begin(self, name: str, headers: Mapping[str, str]) -> Any:
        """A server span under the caller's `traceparent` and `tracestate`; None while there is no provider."""
        if self._tracer is None:
            return None
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(headers)
        return self._tracer.start_span(name, parent, SpanKind.SERVER)

    def finish(
        self, span: Any, status: int, attributes: Mapping[str, Any], calls: Sequence[tuple[float, float]] = ()
    ) -> None:
        """End a span; `calls` are its predictions: when each began, as `time.monotonic()`, and its seconds."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        if not span.is_recording():
            return
        for began, seconds in calls:
            start = time.time_ns() - int((time.monotonic() - began) * 1e9)
            child = self._tracer.start_span("predict", set_span_in_context(span), start_time=start)
            child.end(start + int(seconds * 1e9))
        span.set_attributes({"http.response.status_code": status, **attributes})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Send what is left, for at most so long: a collector that is down must not hold up the end."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is not None:
            last = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
            last.start()
            last.join(seconds)


def trace_id_of(span: Any) -> str:
    """A span's trace, as the log line shows it."""
    return f"{span.get_span_context().trace_id:032x}"


class _UnhurriedExporter:
    """Has an exporter of the SDK encode spans with rests: five hundred of them take 10 ms."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def export(self, spans: Sequence[Any]) -> Any:
        return self._inner.export(Unhurried(spans))

    def force_flush(self, timeout_millis: int = 30_000) -> Any:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        self._inner.shutdown()


def _make_provider(url: str, version: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    # The user's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
    if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "berth", "service.version": version}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_UnhurriedExporter(OTLPSpanExporter(url))))
    return provider


def make_tracing(environ: Mapping[str, str], version: str, libraries: Sequence[str] = _LIBRARIES) -> Tracing | None:
    """Tracing where an endpoint is set and the extra is there; one warning where only the endpoint is."""
    if not (url := traces_url(environ)):
        return None
    if missing := [library for library in libraries if not is_installed(library)]:
        log(f"no traces: {ENDPOINT} is set, but {missing[0]} is missing; install berth[otel]", level=logging.WARNING)
        return None
    return Tracing(url, version)
