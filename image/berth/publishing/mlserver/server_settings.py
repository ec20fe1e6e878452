"""MLServer's `settings.json` as Berth's environment variables, and a line for what has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

_Translate: TypeAlias = Callable[[Any], str]


def _is_on(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes", "on")


def _workers(value: Any) -> str:
    """0 means no parallel inference there: one process."""
    return str(max(1, int(value)))


# MLServer's setting -> (Berth's variable, its value there).
_VARIABLES: dict[str, tuple[str, _Translate]] = {
    "host": ("BERTH_HOST", str),
    "http_port": ("BERTH_PORT", str),
    "grpc_port": ("BERTH_GRPC_PORT", str),
    "parallel_workers": ("BERTH_WORKERS", _workers),
    "debug": ("BERTH_LOG_LEVEL", lambda value: "debug" if _is_on(value) else "info"),
    "use_structured_logging": ("BERTH_LOG_FORMAT", lambda value: "json" if _is_on(value) else "text"),
    "tracing_server": (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        lambda value: str(value) if "//" in str(value) else f"http://{value}",
    ),
}
_REASONS = {
    "metrics_port": "/metrics is on the same port as predictions",
    "metrics_endpoint": "metrics are at /metrics",
    "cache_enabled": "set BERTH_CACHE_BYTES, the memory of the cache per worker",
    "cache_size": "the cache is bounded by BERTH_CACHE_BYTES, not by entries",
    "model_repository_root": "name the folder on the command line",
    "load_models_at_startup": "every model of the store is loaded at the start; BERTH_MODELS chooses some",
    "gzip_enabled": "gzip requests are accepted; compress responses in a proxy",
    "cors_settings": "set CORS headers in a proxy",
    "kafka_enabled": "no Kafka consumer is started by the server",
}


def translate_settings(document: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The environment that means the same, and one line for each setting that has no equivalent."""
    environment: dict[str, str] = {}
    lines: list[str] = []
    for key, value in document.items():
        if key in _VARIABLES:
            variable, translate = _VARIABLES[key]
            try:
                environment[variable] = translate(value)
            except (TypeError, ValueError):
                lines.append(f"{key}: {str(value)[:60]!r} cannot be a value of {variable}")
        elif value not in (None, False, "false", "", [], {}):
            lines.append(f"{key}: {_REASONS.get(key, 'no equivalent')}")
    return environment, lines
