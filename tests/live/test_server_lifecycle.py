"""Start, readiness, drain, SIGTERM and SIGKILL of a real server."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from live.berths import Serve, ask, ask_on, metric, start_berth, start_ready
from live.server import HOST, free_port, wait_until

pytestmark = pytest.mark.live
FLOWER = {"features": [5.1, 3.5, 1.4, 0.2]}
# What `sleeper` answers at once: it starts in half a second, for it needs no scikit-learn.
NO_SLEEP = {"features": [0.0]}


@pytest.fixture
def own_store(store: Path, tmp_path: Path) -> Path:
    """iris@1 in a store that the test may damage."""
    own = tmp_path / "own"
    shutil.copytree(store / "iris" / "1", own / "iris" / "1")
    return own


def test_live_at_once_and_ready_when_every_worker_has_loaded(serve: Serve, store: Path, run_dir: Path) -> None:
    server = start_berth(serve, store, run_dir, workers=2, models="iris")
    assert ask(server, "GET", "/livez") == (200, {"status": "live"})
    status, document = ask(server, "GET", "/readyz")
    if status == 503:  # it may be quick
        assert document["code"] == "not_ready"
        assert "of 2 workers" in document["error"]
    wait_until(lambda: ask(server, "GET", "/readyz")[0] == 200, "readiness")
    assert len(list((run_dir / "workers").glob("*.json"))) == 2
    assert ask(server, "POST", "/predict", FLOWER)[0] == 200


def test_a_flipped_byte_is_never_served_and_the_reason_is_told(
    serve: Serve, own_store: Path, store: Path, run_dir: Path
) -> None:
    artifact = next((own_store / "iris" / "1").glob("*.joblib"))
    data = bytearray(artifact.read_bytes())
    data[len(data) // 2] ^= 1
    artifact.write_bytes(data)
    shutil.copytree(store / "people", own_store / "people")
    server = start_berth(serve, own_store, run_dir, workers=1)
    wait_until(lambda: "loading" not in str(ask(server, "GET", "/health")[1]["models"]), "the models to settle")
    status, health = ask(server, "GET", "/health")
    assert status == 503
    assert health["models"]["iris@1"]["state"] == "failed"
    assert artifact.name in health["models"]["iris@1"]["reason"]
    assert "sha256" in health["models"]["iris@1"]["reason"]
    assert health["models"]["people@1"]["state"] == "ready"
    assert ask(server, "GET", "/readyz")[0] == 503
    assert ask(server, "GET", "/livez")[0] == 200
    status, answer = ask(server, "POST", "/predict", FLOWER)
    assert (status, answer["code"]) == (503, "model_failed")


def test_exit_on_load_failure_ends_the_server(serve: Serve, own_store: Path, run_dir: Path) -> None:
    next((own_store / "iris" / "1").glob("*.joblib")).write_bytes(b"garbage")
    server = start_berth(serve, own_store, run_dir, workers=1, exit_on_load_failure="true")
    assert server.wait() != 0


def test_drain_turns_readiness_off_in_all_workers_while_requests_go_on(
    serve: Serve, sleeper_store: Path, run_dir: Path
) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=2, allow_code="true")
    drained = subprocess.run(
        [sys.executable, "-m", "berth", "drain", "--run-dir", str(run_dir)], capture_output=True, text=True, check=True
    )
    assert "draining" in drained.stdout
    answers = [ask(server, "GET", "/readyz") for _ in range(8)]
    assert {status for status, _ in answers} == {503}
    assert "draining" in answers[0][1]["error"]
    assert ask(server, "POST", "/predict", NO_SLEEP)[0] == 200
    assert ask(server, "GET", "/livez")[0] == 200


def test_a_new_start_inherits_nothing_from_the_run_directory(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    (run_dir / "drain").touch()
    (run_dir / "all-ready").touch()
    (run_dir / "stuck-1").touch()
    (run_dir / "workers" / "1.json").write_text('{"sleeper@1": {"state": "failed", "reason": "old"}}', "utf-8")
    (run_dir / "kept.txt").write_text("somebody else's", "utf-8")
    server = start_ready(serve, sleeper_store, run_dir, workers=1, allow_code="true")
    assert ask(server, "GET", "/livez")[0] == 200
    assert (run_dir / "kept.txt").exists()


def test_sigterm_loses_none_of_12_keepalive_clients_in_mid_request(
    serve: Serve, sleeper_store: Path, run_dir: Path
) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=2, allow_code="true", cpu_threads=6)
    connections = [http.client.HTTPConnection(HOST, server.port, timeout=20) for _ in range(12)]
    for connection in connections:  # every client has a kept connection before the signal
        assert ask_on(connection, "POST", "/predict", {"features": [0.0]})[0] == 200
    answers: list[int] = []

    def call(connection: http.client.HTTPConnection) -> None:
        answers.append(ask_on(connection, "POST", "/predict", {"features": [1.0]})[0])
        connection.close()

    threads = [threading.Thread(target=call, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    wait_until(lambda: metric(server, "berth_inflight") >= 12, "12 predictions in flight")
    server.signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert answers == [200] * 12
    assert server.wait() == 0


def test_a_killed_worker_takes_no_count_with_it_and_is_replaced(
    serve: Serve, sleeper_store: Path, run_dir: Path
) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=2, allow_code="true")
    answered, lost = [0], [0]
    stop = threading.Event()
    lock = threading.Lock()

    def load() -> None:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=20)
        while not stop.is_set():
            try:
                status, _ = ask_on(connection, "POST", "/predict", NO_SLEEP)
            except (OSError, http.client.HTTPException):
                connection.close()
                with lock:
                    lost[0] += 1
                continue
            assert status == 200
            with lock:
                answered[0] += 1
        connection.close()

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.5)
        victim = min(server.workers())
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: victim not in server.workers(), "the worker's end")  # type: ignore[misc]
        server.wait_workers(2)
        assert ask(server, "GET", "/readyz")[0] == 200
    stop.set()
    for thread in threads:
        thread.join()
    counted = metric(server, "berth_requests_total", status="200")
    # An answer is counted before it is sent: a worker killed in between has counted one that nobody got.
    assert answered[0] <= counted <= answered[0] + lost[0]
    assert lost[0] <= 12
    wait_until(lambda: len(list((run_dir / "workers").glob("*.json"))) == 2, "two workers' files")
    wait_until(lambda: "is ready" in server.log().split("Booting worker")[-1], "the replacement")
    files = list((run_dir / "metrics").iterdir())
    assert len(files) < 20, sorted(path.name for path in files)


def test_a_stuck_prediction_fails_liveness_on_every_worker(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=2, allow_code="true", stuck_seconds=1)
    thread = threading.Thread(target=ask, args=(server, "POST", "/predict", {"features": [3.0]}))
    thread.start()
    wait_until(lambda: ask(server, "GET", "/livez")[0] == 503, "liveness to fail")
    statuses = {ask(server, "GET", "/livez")[0] for _ in range(8)}
    assert statuses == {503}
    thread.join()
    wait_until(lambda: ask(server, "GET", "/livez")[0] == 200, "liveness to come back")


def test_a_run_directory_of_its_own_goes_with_the_server(serve: Serve, sleeper_store: Path) -> None:
    port = free_port()
    environ = {"BERTH_HOST": HOST, "BERTH_PORT": str(port), "BERTH_LOG_FORMAT": "json", "BERTH_ALLOW_CODE": "true"}
    environ |= {"BERTH_MODEL_STORE": str(sleeper_store)}
    server = serve([sys.executable, "-m", "berth", "serve", "--models", "sleeper"], environ, port)
    starts = wait_until(lambda: [line for line in server.log_lines() if "settings" in line], "the first line")
    made = Path(starts[0]["settings"]["BERTH_RUN_DIR"])
    assert made.is_dir()
    # A worker that has just been forked does not hear SIGTERM yet, and the server waits for it.
    wait_until(lambda: ask(server, "GET", "/readyz")[0] == 200, "readiness")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not made.exists()
