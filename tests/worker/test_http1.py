"""Plain HTTP/1.1: what is taken is understood exactly as gunicorn's own parser does; the rest is left to it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.wsgi import create
from hypothesis import given
from hypothesis import strategies as st

from berth.worker.http1 import asks_to_close, count_missing, encode_response, is_host, parse_request
from berth.worker.receiving import read_head

CLIENT = "10.0.0.7"
LINE = b"POST /predict HTTP/1.1\r\n"
HEAD = LINE + b"Host: here\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
WHOLE = HEAD + b"\r\n{}"


def parse(data: bytes) -> dict[str, Any] | None:
    """What the application's `answer_plain` does: only a first line that it knows is parsed."""
    return parse_request(data, "POST", "/predict", CLIENT) if data.startswith(LINE) or not data else None


def ask_gunicorn(data: bytes) -> dict[str, Any]:
    """The environment that gunicorn makes of a request, as far as it speaks of the request."""
    request = next(get_parser(Config(), iter([data]), (CLIENT, 1)))
    _, environ = create(request, None, (CLIENT, 1), ("127.0.0.1", 8000), Config())
    own = {"REQUEST_METHOD", "PATH_INFO", "REMOTE_ADDR", "CONTENT_LENGTH", "CONTENT_TYPE"}
    return {name: value for name, value in environ.items() if name in own or name.startswith("HTTP_")}


def without_body(environ: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environ.items() if name != "wsgi.input"}


def test_a_plain_request() -> None:
    environ = parse(HEAD + b"X-Request-Id:  a b \r\n\r\n{}".replace(b"  a b ", b" a b"))
    assert environ is not None
    assert environ["wsgi.input"].read() == b"{}"
    assert without_body(environ) == {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/predict",
        "REMOTE_ADDR": CLIENT,
        "HTTP_HOST": "here",
        "HTTP_X_REQUEST_ID": "a b",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": "2",
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,
        WHOLE + b"POST",  # the next request has begun
        LINE + b"Host: here\r\n\r\n",  # no length
        LINE + b"Content-Length: 0\r\n\r\n",  # no host
        HEAD + b"Content-Length: 2\r\n\r\n{}",
        HEAD + b"content-length: 3\r\n\r\n{}",
        WHOLE.replace(b"Length: 2", b"Length: 1"),
        WHOLE.replace(b"Length: 2", b"Length: 16385"),
        WHOLE.replace(b"Length: 2", b"Length: +2"),
        WHOLE.replace(b"Length: 2", b"Length: 2, 2"),
        WHOLE.replace(b"Length: 2", b"Length: 0x2"),
        WHOLE.replace(b"Length: 2", b"Length: 000000002"),
        WHOLE.replace(b"Length: 2", "Length: ²".encode("latin-1")),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n{}",
        HEAD + b"Expect: 100-continue\r\n\r\n{}",
        HEAD + b"Connection: close\r\n\r\n{}",
        HEAD + b"Connection: Upgrade\r\n\r\n{}",
        HEAD + b"Upgrade: h2c\r\n\r\n{}",
        HEAD + b"Connection: keep-alive, close\r\n\r\n{}",
        HEAD + b"Host: here\r\n\r\n{}",
        HEAD.replace(b"Host: here", b"Host: here/there") + b"\r\n{}",
        HEAD.replace(b"Host: here", b"Host: a, b") + b"\r\n{}",
        HEAD + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n{}",  # two schemes
        WHOLE.replace(b"/predict", b"http://here/predict"),
        WHOLE.replace(b"/predict", b"/pr%65dict"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD + b"Trailer: x\r\n\r\n{}",
        HEAD + b"A: 1\r\nA: 2\r\n\r\n{}",
        HEAD + b"A_B: 1\r\n\r\n{}",  # would stand beside A-B
        HEAD + b"A : 1\r\n\r\n{}",
        HEAD + b"A: 1\r\n folded\r\n\r\n{}",
        HEAD + b"A: 1\nB: 2\r\n\r\n{}",
        HEAD + b"A: 1\rB: 2\r\n\r\n{}",
        HEAD + b"A: \x00\r\n\r\n{}",
        HEAD + "A: ü\r\n\r\n{}".encode("latin-1"),
        HEAD + b"no colon\r\n\r\n{}",
        HEAD + b": no name\r\n\r\n{}",
        HEAD + b"".join(b"A%d: 1\r\n" % number for number in range(70)) + b"\r\n{}",
        HEAD + b"A: " + b"x" * 9000 + b"\r\n\r\n{}",
    ],
    ids=lambda data: repr(data[-40:])[2:-1],
)
def test_what_is_not_plain_is_left_alone(data: bytes) -> None:
    assert parse(data) is None


def test_a_body_that_has_yet_to_come() -> None:
    for cut, whole in ((len(WHOLE), True), (len(WHOLE) - 1, False), (len(WHOLE) - 2, False)):
        environ = parse(WHOLE[:cut])
        assert environ is not None
        assert (count_missing(environ) == 0) is whole


NAMES = st.sampled_from(
    [
        "Content-Length", "Content-Type", "Host", "Connection", "X-Request-Id", "Transfer-Encoding", "Expect",
        "X-A", "x-a", "X_A", "Content-Encoding", "Traceparent", "Cookie", "A1", "1A", "A B", "", "Script-Name",
        "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Ssl", "Path_Info",
    ]
)  # fmt: skip
SPACES = st.sampled_from(["", " ", "  ", "\t", "\r\n ", "\n"])
VALUES = st.one_of(
    st.sampled_from(["2", "0", "3", "keep-alive", "Keep-Alive", "close", "chunked", "100-continue", "", "a,b"]),
    st.sampled_from(["https", "http", "on", "keep-alive, close", "[::1]:80", "a:80", "a b", "a/b", "10.0.0.1"]),
    st.text(st.characters(codec="latin-1"), max_size=6),
)
FIELDS = st.lists(st.builds("{}:{}{}{}\r\n".format, NAMES, SPACES, VALUES, SPACES), max_size=5)


@given(FIELDS, st.sampled_from([b"{}", b"", b"{}\r\n", b"\r\n\r\n"]), st.booleans())
@pytest.mark.parametrize("proxies", ["*", ""], ids=["trusted", "untrusted"])
def test_what_is_plain_is_understood_as_gunicorn_does(
    proxies: str, fields: list[str], body: bytes, framed: bool
) -> None:
    own = [f"Host: h\r\nContent-Length: {len(body)}\r\n"] if framed else []
    data = LINE + "".join(fields + own).encode("latin-1") + b"\r\n" + body
    if (environ := parse(data)) is not None and not count_missing(environ):
        assert environ["wsgi.input"].read() == body
        assert without_body(environ) == ask_gunicorn(data)
        config = Config()
        config.set("forwarded_allow_ips", proxies)
        head = data[: data.index(b"\r\n\r\n") + 4]
        incoming = read_head(config, head, (CLIENT, 1), 1)  # as the pool's way does: nothing is refused there
        assert incoming.find_end(data) == len(data)
        assert not incoming.request.should_close()
        assert not incoming.expects_continue()


def test_an_answer() -> None:
    answer = encode_response("200 OK", [("X-Request-Id", "a"), ("Content-Length", "2")], b"{}").decode()
    date = r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
    head = rf"HTTP/1\.1 200 OK\r\nServer: gunicorn\r\nDate: {date}\r\nConnection: keep-alive\r\n"
    assert re.fullmatch(head + r"X-Request-Id: a\r\nContent-Length: 2\r\n\r\n\{\}", answer)
    assert "\r\nConnection: close\r\n" in encode_response("413 Content Too Large", [], b"", closes=True).decode()


@pytest.mark.parametrize("value", ["", "here", "here:8000", "10.0.0.7", "[::1]", "[::1]:8000", "a_b.svc:80", "here:"])
def test_hosts(value: str) -> None:
    assert is_host(value)


@pytest.mark.parametrize(
    "value", ["a b", "a/b", "a@b", "a,b", "a:b", "a:1:2", "::1", "[::1", "[a/b]", "a#b", "a\\b", "ü"]
)
def test_what_is_no_host(value: str) -> None:
    assert not is_host(value)


def test_close_counts_whatever_else_is_said() -> None:
    for fields in (["close"], ["keep-alive, close"], ["Close"], ["keep-alive", "upgrade,\tCLOSE "]):
        assert asks_to_close(fields)
    for fields in ([], ["keep-alive"], ["closed"], ["enclose, upgrade"]):
        assert not asks_to_close(fields)
