"""A model that ends its process on some message: its consumer is started again, and goes on without that message."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from berth.consuming.answering_process import AnsweringProcess
from berth.consuming.batch_notes import BatchNotes
from berth.consuming.broker_messages import FAILED, PREDICTED, Message, MessageOutcome
from berth.consuming.careful_answers import CarefulAnswers
from consuming.brokers import KafkaCluster, RedisProcess
from consuming.conftest import StartConsumer
from crashing_models import put
from live.berths import metric
from live.server import Server, wait_until

POISON = b"[13]"
_CODE = """
import os, signal

def load(directory):
    def predict(inputs):
        if 13 in inputs["x"]:
            os.kill(os.getpid(), signal.{})
        return {{"y": inputs["x"]}}
    return predict
"""
QUICK = {"kafka_session_timeout_ms": 3000, "kafka_heartbeat_interval_ms": 500, "kafka_max_poll_interval_ms": 10_000}


def _messages(*offsets: int, topic: str = "rows") -> list[Message]:
    return [Message(b"%d" % offset, position=(topic, 0, offset)) for offset in offsets]


def _die_with(folder: Path, *offsets: int) -> None:
    """A process of the group `g` ends while the model has these messages."""
    if (pid := os.fork()) == 0:
        with BatchNotes(folder, "g").in_hand(_messages(*offsets)):
            os._exit(1)
    os.waitpid(pid, 0)


def _careful(
    notes: BatchNotes, calls: list[int], command: Sequence[str] = ("false",), seconds: float = 30
) -> CarefulAnswers:
    def usual(messages: Sequence[Message]) -> list[MessageOutcome]:
        calls.append(len(messages))
        return [MessageOutcome(PREDICTED, message) for message in messages]

    process = AnsweringProcess(command, os.environ, seconds)
    return CarefulAnswers(notes, usual, process.answer, process, lambda message, why: MessageOutcome(FAILED, message))


def test_a_batch_is_suspect_once_a_process_has_died_of_it(tmp_path: Path) -> None:
    _die_with(tmp_path, 5, 6, 7)
    notes = BatchNotes(tmp_path, "g")
    assert [notes.deaths_of(_messages(offset)) for offset in (4, 5, 7, 8)] == [0, 1, 1, 0]
    assert notes.deaths_of(_messages(6, topic="other")) == 0
    assert BatchNotes(tmp_path, "g").deaths_of(_messages(6)) == 0  # the one who knows of it lives
    notes.close()
    again = BatchNotes(tmp_path, "g")
    assert again.deaths_of(_messages(6)) == 1
    again.settle(_messages(5, 6))
    assert again.has_suspects
    again.settle(_messages(7))
    assert not again.has_suspects
    again.close()
    assert BatchNotes(tmp_path, "g").deaths_of(_messages(6)) == 0


def test_a_group_does_not_read_the_notes_of_another(tmp_path: Path) -> None:
    _die_with(tmp_path, 5)
    assert BatchNotes(tmp_path, "h").deaths_of(_messages(5)) == 0


def test_what_is_not_a_note_is_left_alone(tmp_path: Path) -> None:
    _die_with(tmp_path, 5)
    (note,) = tmp_path.iterdir()
    note.write_text('{"hand": [[1')
    assert not BatchNotes(tmp_path, "g").has_suspects


def test_without_a_folder_there_are_no_notes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notes, calls = BatchNotes(tmp_path / "file" / "notes", "g"), list[int]()
    assert [outcome.result for outcome in _careful(notes, calls).answer(_messages(1, 2))] == [PREDICTED] * 2
    assert calls == [2]


def test_every_death_makes_the_pieces_smaller_until_one_message_is_given_up(tmp_path: Path) -> None:
    sizes = []
    for _ in range(6):
        _die_with(tmp_path, 5)
        notes = BatchNotes(tmp_path, "g")
        careful, calls = _careful(notes, []), list[int]()
        sizes.append(careful.most_rows(_messages(4, 5)))
        notes.close()
    assert sizes == [16, 8, 4, 2, 1, 1]
    careful = _careful(BatchNotes(tmp_path, "g"), calls)
    assert [outcome.result for outcome in careful.answer(_messages(5))] == [FAILED]
    assert [outcome.result for outcome in careful.answer(_messages(4))] == [PREDICTED]
    assert calls == [1]
    careful.close()


def test_suspects_are_answered_here_where_no_other_process_starts(tmp_path: Path) -> None:
    _die_with(tmp_path, 5, 6)
    notes, calls = BatchNotes(tmp_path, "g"), list[int]()
    careful = _careful(notes, calls)
    assert [outcome.result for outcome in careful.answer(_messages(5, 6))] == [PREDICTED] * 2
    assert (calls, notes.no_room) == ([2], True)
    careful.settle(_messages(5, 6))
    assert not notes.no_room
    careful.close()


_SLOW = "import sys, time; print('ready', flush=True); sys.stdin.readline(); time.sleep(60)"


def test_a_model_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    _die_with(tmp_path, 5)
    careful = _careful(BatchNotes(tmp_path, "g"), [], (sys.executable, "-c", _SLOW), 0.2)
    assert [outcome.result for outcome in careful.answer(_messages(5))] == [FAILED]
    careful.close()


def _count_deaths(start: Callable[[], Server], is_done: Callable[[Server], bool], most: int) -> int:
    """Start a consumer again whenever it dies, as Kubernetes does, until the work is done; how often it died."""
    server, deaths = start(), 0

    def step() -> bool:
        nonlocal server, deaths
        with suppress(subprocess.TimeoutExpired):
            assert server.wait(0.1) != 0, server.log()
            deaths += 1
            assert deaths <= most, f"it dies again and again:\n{server.log()}"
            server = start()
        return is_done(server)

    wait_until(step, f"the predictions; log:\n{server.log()}", 120)
    return deaths


@pytest.fixture
def crashing(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """The settings of a consumer whose model ends its process by a signal when it sees 13."""

    def make(signal: str) -> dict[str, Any]:
        put(tmp_path / "crashing", "crashing", _CODE.format(signal))
        own = {"model_store": tmp_path / "crashing", "models": "crashing@1", "allow_code": True}
        return {**own, "run_dir": tmp_path / "run"}

    return make


@pytest.mark.live
@pytest.mark.slow
def test_kafka_goes_on_behind_the_messages_on_which_the_model_crashes(
    kafka: KafkaCluster, consume: StartConsumer, crashing: Callable[[str], dict[str, Any]]
) -> None:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    settings = {**crashing("SIGSEGV"), **QUICK}
    bad = {b"70", b"71", b"250"}
    values = ((b"%d" % at, POISON if b"%d" % at in bad else b"[1]") for at in range(300))
    kafka.produce("rows", [{"key": key, "value": value} for key, value in values])
    arguments = (f"{kafka.url}/rows", "--to", f"{kafka.url}/scores", "--dead", "dead", "--batch-rows", "100")
    deaths = _count_deaths(
        lambda: consume(*arguments, ready=False, **settings), lambda server: len(kafka.read("dead", 0)) == len(bad), 3
    )
    assert deaths >= 1
    scores, dead = kafka.read("scores", 300 - len(bad)), kafka.read("dead", len(bad))
    assert {message.key() for message in dead} == bad
    assert {message.key() for message in scores} == {b"%d" % at for at in range(300)} - bad
    assert {message.value() for message in dead} == {POISON}
    headers = dict(dead[0].headers())
    assert headers["berth-code"] == b"prediction_failed"
    assert headers["berth-error"] == b"the model crashed with SIGSEGV on this message"


@pytest.mark.live
@pytest.mark.slow
def test_redis_goes_on_behind_a_message_on_which_the_process_is_killed(
    redis: RedisProcess, consume: StartConsumer, crashing: Callable[[str], dict[str, Any]]
) -> None:
    settings = crashing("SIGKILL")
    for at in range(60):
        redis.client.xadd("crash-rows", {"key": str(at), "value": POISON if at == 40 else b"[1]"})
    arguments = (f"{redis.url}/crash-rows", "--to", f"{redis.url}/crash-scores", "--dead", "crash-dead")

    def is_done(server: Server) -> bool:
        if redis.client.xlen("crash-dead") < 1 or redis.client.xlen("crash-scores") < 59:
            return False
        return metric(server, "berth_batch_rows_sum") >= 59  # by the process beside this one, and counted here

    deaths = _count_deaths(lambda: consume(*arguments, "--claim-seconds", "0.5", ready=False, **settings), is_done, 2)
    assert deaths == 1
    ((_, dead),) = redis.entries("crash-dead")
    assert (dead[b"key"], dead[b"value"]) == (b"40", POISON)
    assert b"was killed on this message" in dead[b"berth-error"]
    assert {fields[b"key"] for _, fields in redis.entries("crash-scores")} == {b"%d" % at for at in range(60)} - {b"40"}
    redis.client.xadd("crash-rows", {"key": "after", "value": b"[1]"})
    wait_until(lambda: redis.client.xlen("crash-scores") == 60, "the next prediction")
