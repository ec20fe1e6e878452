"""`berth bench` against real servers on this machine: what it counts, says and exits with."""

from __future__ import annotations

import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from werkzeug.serving import make_server

from berth.cli.load import Tally, quantile
from berth.cli.main import main
from web.asking import MakeApp

Bench = Callable[..., tuple[int, str, str]]


class Scripted(BaseHTTPRequestHandler):
    """Answers /NUMBER with that status, /close with nothing, and counts what it was sent."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[Counter[tuple[str, bytes]]] = Counter()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen[self.headers.get("X-Api-Key", ""), body] += 1
        if self.path == "/close":
            self.close_connection = True
            return
        self.send_response(int(self.path.strip("/")))
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"said")

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _serve(server: Any) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def scripted() -> Iterator[str]:
    """The URL of a `Scripted` server."""
    Scripted.seen.clear()
    yield from _serve(ThreadingHTTPServer(("127.0.0.1", 0), Scripted))


@pytest.fixture(scope="module")
def berth_url(make_app: MakeApp, store: Path) -> Iterator[str]:
    """The URL of Berth with iris and people."""
    application = make_app(store, models="iris@1,people").application
    yield from _serve(make_server("127.0.0.1", 0, application, threaded=True))


@pytest.fixture
def bench(capfd: pytest.CaptureFixture[str]) -> Bench:
    """bench(url, …): its exit code, output and errors after a short load from three connections."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["bench", "--seconds", "0.3", "--connections", "3", *map(str, arguments)])
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.mark.parametrize("model", ["iris", "people", None])
def test_a_server_is_sent_its_own_example(bench: Bench, berth_url: str, model: str | None) -> None:
    code, out, err = bench(berth_url, *(["--model", model] if model else []))
    assert (code, "refused" in out) == (0, False), out + err
    assert f"POST {berth_url}/predict" in out
    assert re.search(r"^[1-9]\d* requests/s \([1-9]\d* in 0.3 s\)$", out, re.MULTILINE)
    assert re.search(r"^p50 [\d.]+ ms · p95 [\d.]+ ms · p99 [\d.]+ ms · max [\d.]+ ms$", out, re.MULTILINE)


def test_a_route_is_sent_a_file(bench: Bench, berth_url: str, tmp_path: Path) -> None:
    row = [5.1, 3.5, 1.4, 0.2]
    body = {"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP64", "data": row}]}
    (tmp_path / "body.json").write_text(json.dumps(body))
    assert bench(f"{berth_url}/v2/models/iris/infer", "--body", tmp_path / "body.json")[0] == 0
    (tmp_path / "body.json").write_text("{}")
    code, out, _ = bench(f"{berth_url}/predict", "--body", tmp_path / "body.json")
    assert code == 1
    assert re.search(r"^\d+ returned 400: .*invalid_input", out, re.MULTILINE)


def test_everything_sent_is_counted(bench: Bench, scripted: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x")
    code, out, _ = bench(f"{scripted}/200", "--body", tmp_path / "body", "--header", "X-Api-Key: k")
    assert code == 0
    assert Scripted.seen == {("k", b"x"): int(out.split("(")[1].split(" in ")[0])}


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("500", 1, r"^[1-9]\d* returned 500: said$"),
        ("302", 1, r"^[1-9]\d* returned 302: said$"),
        ("429", 1, r"^[1-9]\d* refused \(429\): the server demands less load$"),
        ("close", 1, r"^[1-9]\d* without a response: Remote end closed connection without response$"),
    ],
)
def test_what_goes_wrong(bench: Bench, scripted: str, tmp_path: Path, path: str, code: int, said: str) -> None:
    (tmp_path / "body").write_bytes(b"x")
    ended, out, _ = bench(f"{scripted}/{path}", "--body", tmp_path / "body")
    assert ended == code
    assert re.search(said, out, re.MULTILINE)
    assert out.splitlines()[1] == "0 requests/s (0 in 0.3 s)"


def test_refusals_alone_are_no_fault() -> None:
    tally = Tally(statuses=Counter({200: 5, 429: 3}))
    assert (tally.refused, tally.failed) == (3, 0)
    tally.add(Tally(statuses=Counter({503: 2}), broken=Counter({"reset": 1})))
    assert (tally.refused, tally.failed) == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["localhost:8000"], 2, "want http://HOST:PORT"),
        (["http://127.0.0.1:99999"], 2, "want http://HOST:PORT"),
        (["http://127.0.0.1:8000", "--header", "key"], 2, "want 'NAME: VALUE'"),
        (["http://127.0.0.1:8000", "--body", "/no/such/file"], 2, "does not exist"),
        (["http://127.0.0.1:1"], 1, "Connection refused"),
    ],
)
def test_what_cannot_begin(bench: Bench, arguments: list[str], code: int, said: str) -> None:
    ended, _, err = bench(*arguments)
    assert ended == code
    assert said in err


def test_a_model_or_server_that_is_not_there(bench: Bench, berth_url: str, scripted: str) -> None:
    code, _, err = bench(berth_url, "--model", "roses")
    assert (code, err) == (1, "berth: the server has no model 'roses'; it has iris, people\n")
    code, _, err = bench(scripted)
    assert code == 1
    assert "/info returned 501" in err
    assert "give the body with --body FILE" in err


def test_quantiles() -> None:
    numbers = [float(number) for number in range(1, 101)]
    assert [quantile(numbers, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert [quantile([7.0], share) for share in (0.0, 0.5, 1.0)] == [7, 7, 7]
    assert math.isnan(quantile([], 0.5))
