"""Log lines: one per record, whatever is in it, as JSON or as text."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator

import httpx
import pytest

from berth.telemetry import logs

EVIL = 'a\r\nb\x1b[31m"\\\x00\u2028\udcff'


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The root logger is as before after each test."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_a_line_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.log("iris@1 is ready", model="iris", seconds=0.5)
    line = json.loads(capfd.readouterr().out)
    assert line.items() >= {"level": "info", "message": "iris@1 is ready", "model": "iris", "seconds": 0.5}.items()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])


def test_a_line_of_text(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logs.log("iris@1 is ready", model="iris", seconds=0.5)
    assert re.fullmatch(r"\S+ info +iris@1 is ready model='iris' seconds=0.5\n", capfd.readouterr().out)


def test_levels(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    logs.log("quiet")
    logs.log("loud", level=logging.WARNING)
    logging.getLogger("another").error("library")
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [("warning", "loud"), ("error", "library")]


@pytest.mark.parametrize("form", ["json", "text"])
def test_nothing_breaks_a_line(capfd: pytest.CaptureFixture[str], form: str) -> None:
    logs.configure("info", form)
    logs.log(EVIL, name_=EVIL, list_=[EVIL])
    logs.write_request({"ts": logs.timestamp(), "level": "info", "error": EVIL}, form)
    captured = capfd.readouterr()
    assert captured.out.count("\n") == 2
    assert not set(captured.out) & set("\r\x00\x1b\u2028")
    assert captured.err == ""


def test_a_traceback_is_a_field_of_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("berth").exception("it broke")
    line = json.loads(capfd.readouterr().out)
    assert line["message"] == "it broke"
    assert "ValueError: broken" in line["exception"]


def test_what_has_no_json_form_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.log("odd", value={1, 2}, kind=int)
    assert json.loads(capfd.readouterr().out)["value"] == "{1, 2}"


def test_a_request_is_one_write(capfd: pytest.CaptureFixture[str]) -> None:
    logs.write_request({"ts": "T", "level": "info", "message": "m", "status": 200, "route": "/predict"}, "text")
    logs.write_request({"ts": "T", "status": 200}, "json")
    assert capfd.readouterr().out == "T info    status=200 route='/predict'\n" + '{"ts":"T","status":200}\n'
    assert sys.stdout.fileno() > 0


@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_password_of_an_address_is_logged(capfd: pytest.CaptureFixture[str], level: str) -> None:
    logs.configure(level, "json")
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with httpx.Client(transport=transport) as client:
        assert client.post("http://reader:secret@collector.example/lines", content=b"{}").status_code == 200
    assert "secret" not in capfd.readouterr().out
