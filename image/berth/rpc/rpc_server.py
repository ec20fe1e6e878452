"""gRPC on a port of its own: one server in each worker, made after the fork, all on one port by SO_REUSEPORT.

A method is one run of the pipeline: the same gate, keys (metadata), deadline, metrics, log line and receipts as over
HTTP. gRPC's threads only wait: the gate decides how many of them predict.
"""

from __future__ import annotations

import importlib.util
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from berth.errors import SettingsError
from berth.rpc.health_watch import MOST_WATCHES, HealthWatch
from berth.rpc.methods import HEALTH, MESSAGE, METHODS
from berth.tensors.codec import decode_json
from berth.web.exchange import Endpoint
from berth.web.pipeline import Finished, Pipeline

# HTTP's statuses -> the names of gRPC's; others are INTERNAL.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# What a request's metadata says, as the pipeline reads it.
_METADATA = ("authorization", "x-api-key", "x-request-id", "x-request-timeout-ms", "traceparent", "tracestate")
# gRPC has these itself, or they say how a body is framed.
_OWN_FIELDS = frozenset({"content-type", "content-length", "connection"})
# Threads beyond the gate, for health and metadata.
_HEADROOM = 4
# A client may open as many streams as it likes; more than this wait at the client.
_MOST_STREAMS = 256


def _host_of(peer: str) -> str:
    """The address in gRPC's `ipv4:10.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    _, _, place = peer.partition(":")
    return place.rpartition(":")[0].replace("%5B", "").replace("%5D", "") or peer


def _environ(message: bytes, path: str, context: Any) -> dict[str, Any]:
    """A call as the pipeline reads a request."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "REMOTE_ADDR": _host_of(context.peer()),
        MESSAGE: message,
    }
    for key, value in context.invocation_metadata():
        if key in _METADATA and isinstance(value, str):
            environ["HTTP_" + key.upper().replace("-", "_")] = value
    remaining = context.time_remaining()
    # Without a deadline gRPC names one that is years away.
    if remaining is not None and remaining < 86400 and "HTTP_X_REQUEST_TIMEOUT_MS" not in environ:
        environ["HTTP_X_REQUEST_TIMEOUT_MS"] = str(max(1, int(remaining * 1000)))
    return environ


class RpcServer:
    """The gRPC server of one worker."""

    def __init__(self, pipeline: Pipeline, host: str, port: int, max_inflight: int, max_body_bytes: int) -> None:
        if importlib.util.find_spec("grpc") is None:
            raise SettingsError(
                f"BERTH_GRPC_PORT={port} needs grpcio, which is not installed: pip install 'berth[grpc]'"
            )
        self._pipeline = pipeline
        self._address = f"{f'[{host}]' if ':' in host and host[0] != '[' else host}:{port}"
        self._threads = max_inflight + _HEADROOM + MOST_WATCHES
        self._watches = HealthWatch(self._check_health)
        self._max_body_bytes = max_body_bytes
        self._server: Any = None

    def start_after(self, wait: Callable[[float], bool]) -> None:
        """Listen once `wait` returns: after the fork, when models that were tried in children are loaded."""

        def start() -> None:
            wait(math.inf)
            self.start()

        threading.Thread(target=start, name="rpc", daemon=True).start()

    def start(self) -> None:
        """Listen. Nothing may fork from now on: gRPC's threads do not survive it."""
        import grpc

        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", self._max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", _MOST_STREAMS),
        ]
        server = grpc.server(ThreadPoolExecutor(self._threads, "grpc"), options=options)
        for service in {path.split("/")[1] for path in METHODS}:
            handlers = {
                path.split("/")[2]: grpc.unary_unary_rpc_method_handler(self._make_handler(path, endpoint, grpc))
                for path, endpoint in METHODS.items()
                if path.split("/")[1] == service
            }
            if service == HEALTH:
                handlers["Watch"] = grpc.unary_stream_rpc_method_handler(self._watches.watch)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        server.add_insecure_port(self._address)
        server.start()
        self._server = server

    def stop(self, grace_seconds: float) -> None:
        """Send the clients elsewhere (GOAWAY) and finish the calls that have begun, within the time."""
        if self._server is not None:
            self._watches.stop()
            self._server.stop(grace_seconds).wait(grace_seconds + 1)

    def _check_health(self, message: bytes, context: Any) -> bytes | None:
        path = f"/{HEALTH}/Check"
        finished = self._pipeline.run(METHODS[path], _environ(message, path, context), {})
        return finished.body if finished.status == 200 else None

    def _make_handler(self, path: str, endpoint: Endpoint, grpc: Any) -> Any:
        codes = grpc.StatusCode

        def handle(message: bytes, context: Any) -> bytes:
            finished = self._pipeline.run(endpoint, _environ(message, path, context), {})
            context.set_trailing_metadata(_trailers(finished))
            if finished.status == 200:
                return finished.body
            error: Mapping[str, Any] = decode_json(finished.body)
            context.abort(getattr(codes, _CODES.get(finished.status, "INTERNAL")), str(error["error"]))
            raise AssertionError("abort raises")

        return handle


def _trailers(finished: Finished) -> tuple[tuple[str, str], ...]:
    """The response's headers, as metadata; of an error its code as well."""
    found = [(name.lower(), value) for name, value in finished.headers if name.lower() not in _OWN_FIELDS]
    if finished.status != 200:
        found.append(("berth-code", str(decode_json(finished.body)["code"])))
    return tuple(found)
