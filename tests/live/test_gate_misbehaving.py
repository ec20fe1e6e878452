"""The gate and verify against servers that misbehave on purpose."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from live.gating import GREEN, Answer, Lookup, Puppet, judge, switch, verify
from live.server import HOST

pytestmark = pytest.mark.live
Start = Callable[[Answer], Puppet]


@pytest.fixture
def puppet() -> Iterator[Start]:
    """puppet(answer): a server whose answers the test makes."""
    puppets: list[Puppet] = []

    def start(answer: Answer) -> Puppet:
        puppets.append(Puppet(answer))
        return puppets[-1]

    yield start
    for one in puppets:
        one.stop()


@pytest.fixture
def blue(puppet: Start) -> str:
    """The live slot's address."""
    return puppet(lambda path: (200, {"slot": "blue", "prediction": [0]})).url


def as_green(path: str) -> tuple[int, dict[str, Any] | bytes]:
    """What a good green slot answers."""
    return 200, {"slot": "green", "fingerprint": GREEN, "prediction": [0]}


def with_predictions(*statuses: int, pause: float = 0.0) -> Answer:
    """A green slot whose predictions have these statuses, over and over."""
    count = [0]

    def answer(path: str) -> tuple[int, dict[str, Any] | bytes]:
        if path != "/predict":
            return as_green(path)
        time.sleep(pause)
        status = statuses[count[0] % len(statuses)]
        count[0] += 1
        return status, {"prediction": [0]} if status == 200 else {"error": "told to"}

    return answer


@pytest.mark.parametrize(
    ("answer", "passes", "words"),
    [
        (with_predictions(200), True, ""),
        # One that fails every other time would have five in a row some day: it has three misses.
        (with_predictions(200, 200, 500), False, "connection 3 of 5: slot green does not predict"),
        (with_predictions(500, 500, *[200] * 9), True, ""),
        (with_predictions(503, 503, 503, 503, 503, *[200] * 9), True, ""),  # still starting
        (with_predictions(200, 404), False, "connection 2 of 5: slot green refuses the sample prediction"),
        (with_predictions(200, pause=0.03), False, "gate.maxLatencyMs allows 20"),
        (lambda path: as_green(path) if path != "/predict" else (200, b"<html>"), False, "without a JSON object"),
        (lambda path: as_green(path) if path != "/predict" else (200, b"[" * 100_000), False, "JSON object"),
    ],
)
def test_predictions_in_a_row(
    blue: str,
    lookup: Lookup,
    told: list[str],
    puppet: Start,
    answer: Answer,
    passes: bool,
    words: str,
) -> None:
    plan = replace(switch(blue, puppet(answer).url), request={"features": [1]}, max_latency_ms=20)
    plan = plan if "maxLatency" in words else replace(plan, max_latency_ms=None)
    passed, sentence = judge(plan, lookup, told)
    assert (passed, words in sentence) == (passes, True), sentence


def test_pods_of_an_old_fingerprint_among_the_new_ones_are_found(
    blue: str, lookup: Lookup, told: list[str], puppet: Start
) -> None:
    count = [0]

    def answer(path: str) -> tuple[int, dict[str, Any] | bytes]:
        count[0] += path == "/info"
        fingerprint = "0" * 12 if path == "/info" and count[0] % 3 == 0 else GREEN
        return 200, {"slot": "green", "fingerprint": fingerprint, "prediction": [0]}

    plan = replace(switch(blue, puppet(answer).url), request={"features": [1]})
    passed, sentence = judge(plan, lookup, told)
    assert not passed
    assert "stage first" in sentence


def test_every_request_is_bounded(blue: str, lookup: Lookup, told: list[str]) -> None:
    stop = threading.Event()
    with socket.create_server((HOST, 0)) as listener:

        def drip() -> None:  # a byte in time keeps any timeout between two bytes from ever striking
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not stop.wait(0.05):
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        plan = switch(blue, f"http://target.shop.svc:{listener.getsockname()[1]}")
        began = time.monotonic()
        passed, sentence = judge(replace(plan, timeout_seconds=1), lookup, told)
        assert time.monotonic() - began < 3
        stop.set()
        thread.join()
    assert not passed
    assert "gave no response" in sentence


def test_verify_never_uses_a_connection_twice_and_begins_again_after_a_miss(
    lookup: Lookup, told: list[str], puppet: Start
) -> None:
    count = [0]

    def answer(path: str) -> tuple[int, dict[str, Any] | bytes]:
        count[0] += path == "/info"
        slot = "blue" if path == "/info" and count[0] == 5 else "green"
        return 200, {"slot": slot, "prediction": [0]}

    one = puppet(answer)
    assert verify(one.url, lookup, told, request={"features": [1]})[0]
    assert one.connections == 5 + 6
    assert "connection 5 of 6" in told[0]


def test_verify_asks_through_the_route(lookup: Lookup, told: list[str], puppet: Start) -> None:
    well: dict[str, Any] = {"slot": "green", "prediction": [0]}
    status = [500]
    service, route = puppet(lambda path: (200, well)), puppet(lambda path: (status[0], well))
    more = {"request": {"features": [1]}, "route_url": route.url, "route_host": "iris.example.com", "connections": 3}
    # The Service alone is well; a route that a controller accepts and cannot serve is found through the controller.
    assert verify(service.url, lookup, told, request={"features": [1]}, connections=3)[0]
    passed, sentence = verify(service.url, lookup, told, **more, timeout_seconds=1)
    assert not passed
    assert "through the route: " in sentence
    assert "500" in sentence
    status[0] = 200
    passed, sentence = verify(service.url, lookup, told, **more)
    assert passed
    assert "and the route" in sentence
    assert route.hosts == {"iris.example.com"}


def test_either_slot_may_respond_where_a_canary_has_a_share(lookup: Lookup, told: list[str], puppet: Start) -> None:
    count = [0]

    def share(path: str) -> tuple[int, dict[str, Any]]:
        count[0] += path == "/info"
        return 200, {"slot": "blue" if count[0] % 2 else "green", "prediction": [0]}

    service, route = puppet(lambda path: (200, {"slot": "green", "prediction": [0]})), puppet(share)
    more = {"request": {"features": [1]}, "route_url": route.url, "connections": 3, "timeout_seconds": 1}
    assert verify(service.url, lookup, told, **more, route_shares=True)[0]
    assert not verify(service.url, lookup, told, **more)[0]
