"""What ci/smoke requests of a server, from inside a container that shares its network; only the standard library.

Usage: python - ready SECONDS | ask | load CLIENTS
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from typing import Any

ADDRESS = ("127.0.0.1", 8000)
FLOWER = [5.1, 3.5, 1.4, 0.2]
HEAVY_ROWS = 20_000


def ask(
    method: str, path: str, document: Any = None, connection: http.client.HTTPConnection | None = None
) -> tuple[int, Any]:
    """Status and body of one request."""
    connection = connection or http.client.HTTPConnection(*ADDRESS, timeout=30)
    body = None if document is None else json.dumps(document)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    data = answer.read().decode()
    return answer.status, json.loads(data) if "json" in answer.headers.get("Content-Type", "") else data


def check(what: str, have: Any, want: Any) -> None:
    """End with a message unless the two are equal."""
    if have != want:
        sys.exit(f"{what}: got {have!r}, want {want!r}")


def wait_ready(seconds: float) -> None:
    """Return when /readyz returns 200."""
    deadline = time.monotonic() + seconds
    said: Any = "nothing"
    while time.monotonic() < deadline:
        try:
            status, said = ask("GET", "/readyz")
        except OSError as error:
            status, said = 0, error
        if status == 200:
            return
        time.sleep(0.02)
    sys.exit(f"not ready after {seconds:g} s: {said}")


def ask_all() -> None:
    """The README's request, the same over V2, and what is said about the model."""
    status, answer = ask("POST", "/predict", {"features": FLOWER})
    check("/predict", (status, answer.get("prediction")), (200, [0]))
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": FLOWER}
    status, answer = ask("POST", "/v2/models/iris/infer", {"inputs": [tensor], "outputs": [{"name": "prediction"}]})
    check("V2 infer", (status, answer.get("outputs", [{}])[0].get("data")), (200, [0]))
    check("a wrong width", ask("POST", "/predict", {"features": [1.0]})[0], 400)
    check(
        "/info names the models", [model["name"] for model in ask("GET", "/info")[1]["models"]], ["iris", "iris-forest"]
    )
    check("/metrics", "flask_http_request_total{" in ask("GET", "/metrics")[1], True)


def inflight() -> float:
    """Predictions that the server is busy with."""
    lines = [line for line in ask("GET", "/metrics")[1].splitlines() if line.startswith("berth_inflight")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def send_load(clients: int) -> None:
    """Say `sent` when every client's heavy request is being worked on, then `served N` when all have responses."""
    connections = [http.client.HTTPConnection(*ADDRESS, timeout=60) for _ in range(clients)]
    for connection in connections:
        check("a warm-up request", ask("POST", "/predict", {"features": FLOWER}, connection)[0], 200)
    answers: list[tuple[int, int]] = []

    def send(connection: http.client.HTTPConnection) -> None:
        body = {"features": [FLOWER] * HEAVY_ROWS, "model": "iris-forest"}
        status, answer = ask("POST", "/predict", body, connection)
        answers.append((status, len(answer.get("prediction", []))))

    threads = [threading.Thread(target=send, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    while inflight() < clients and not answers:
        time.sleep(0.02)
    print("sent", flush=True)
    for thread in threads:
        thread.join()
    check("responses after SIGTERM", answers, [(200, HEAVY_ROWS)] * clients)
    print(f"served {len(answers)}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "ready":
        wait_ready(float(sys.argv[2]))
    elif sys.argv[1] == "ask":
        ask_all()
    else:
        send_load(int(sys.argv[2]))
