"""/livez, /readyz, /metrics and the other pages of operation, on a thread beside the loop of a consumer.

The endpoints are the server's own, run by its pipeline; there is no route that predicts.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from berth.errors import RouteNotFound
from berth.web import ops
from berth.web.drift_report import ENDPOINTS as DRIFT
from berth.web.exchange import Backend, Endpoint, Exchange, Reply
from berth.web.pipeline import Pipeline

_IDLE_SECONDS = 10.0
_ENDPOINTS = {endpoint.path: endpoint for endpoint in (*ops.ENDPOINTS, *DRIFT)}


def _unknown(exchange: Exchange, backend: Backend) -> Reply:
    raise RouteNotFound(f"a consumer has {', '.join(_ENDPOINTS)}")


_UNKNOWN = Endpoint("get", "", "unknown", "operate", "No such path", _unknown, access="open")


def _make_handler(pipeline: Pipeline) -> type[BaseHTTPRequestHandler]:
    class ProbeHandler(BaseHTTPRequestHandler):
        timeout = _IDLE_SECONDS

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            environ: dict[str, Any] = {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REMOTE_ADDR": self.client_address[0],
            }
            environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()}
            finished = pipeline.run(_ENDPOINTS.get(path, _UNKNOWN), environ, {})
            self.send_response(finished.status)
            for name, value in finished.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(finished.body)

        def log_message(self, format: str, *args: Any) -> None:
            """The pipeline logs requests."""

    return ProbeHandler


def start_probes(pipeline: Pipeline, host: str, port: int) -> ThreadingHTTPServer:
    """Respond to probes on a thread. Raises OSError where another process has the port."""
    server = ThreadingHTTPServer((host, port), _make_handler(pipeline))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
