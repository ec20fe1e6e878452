"""`berth health`: the exit code that a container's HEALTHCHECK looks at."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner

from berth.cli.health_command import local_url
from berth.cli.main import berth


class Health(BaseHTTPRequestHandler):
    """200 at /health, 503 elsewhere, and says so."""

    def do_GET(self) -> None:
        ready = self.path == "/health"
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b"ready" if ready else b"still loading")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Where such a server listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_ready_is_0_and_not_ready_is_1(port: int) -> None:
    environ = {"BERTH_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    done = CliRunner(env=environ).invoke(berth, ["health"])
    assert (done.exit_code, done.stdout) == (0, "ready\n")
    done = CliRunner(env=environ).invoke(berth, ["health", "--url", f"http://127.0.0.1:{port}/readyz"])
    assert (done.exit_code, done.stderr) == (1, "still loading\n")


def test_nobody_there_is_1_and_says_where() -> None:
    done = CliRunner().invoke(berth, ["health", "--url", "http://127.0.0.1:9/health", "--timeout", "1"])
    assert done.exit_code == 1
    assert done.stderr.startswith("http://127.0.0.1:9/health: ")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000/health"),
        ("::", "http://[::1]:8000/health"),
        ("10.1.2.3", "http://10.1.2.3:8000/health"),
        ("fd00::1", "http://[fd00::1]:8000/health"),
    ],
)
def test_the_server_is_asked_where_it_listens(host: str, url: str) -> None:
    assert local_url(host, 8000) == url
