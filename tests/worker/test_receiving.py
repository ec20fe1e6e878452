"""A request that comes in pieces: where it ends is where gunicorn's own reader ends, and nothing waits for the rest."""

from __future__ import annotations

import pytest
from gunicorn.config import Config
from gunicorn.http import errors
from hypothesis import given
from hypothesis import strategies as st

from berth.worker.receiving import BrokenBody, ChunkedEnd, HeadersTimeout, Incoming, InvalidHost, read_head

CLIENT = ("10.0.0.7", 1)
HEAD = b"POST /predict HTTP/1.1\r\nHost: here\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = HEAD + b"Content-Length: 5\r\n\r\n"


def begin(head: bytes) -> Incoming:
    return read_head(Config(), head, CLIENT, 1)


def encode_chunks(pieces: list[bytes], extension: bytes, trailers: bytes) -> bytes:
    """A body in chunks."""
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces if piece)
    return chunks + b"0" + extension + b"\r\n" + trailers + b"\r\n"


BODIES = st.builds(
    encode_chunks,
    st.lists(st.binary(max_size=20), max_size=4),
    st.sampled_from([b"", b";a=b", b" ; a", b';a="x"']),
    st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nB: c\r\n"]),
)


@given(BODIES, st.binary(max_size=9), st.lists(st.integers(0, 200), max_size=5))
def test_a_chunked_body_ends_where_gunicorns_reader_ends(body: bytes, behind: bytes, cuts: list[int]) -> None:
    end, whole = ChunkedEnd(0), body + behind
    for cut in sorted(cuts):
        found = end.find(whole[:cut])
        assert found == (len(body) if cut >= len(body) else None)
        if found is not None:
            break
    assert end.find(whole) == len(body)
    incoming = begin(CHUNKED)
    incoming.complete(CHUNKED + body)
    incoming.request.body.read()
    assert incoming.is_spent()


@given(st.one_of(st.binary(max_size=40), st.text("0123456789abcf;=\r\n x", max_size=40).map(str.encode)))
def test_whatever_comes_as_chunks_is_read_without_waiting(body: bytes) -> None:
    incoming = begin(CHUNKED)
    end = incoming.find_end(CHUNKED + body)
    incoming.complete((CHUNKED + body)[:end], None if end else TimeoutError(), whole=end is not None)
    try:
        incoming.request.body.read()
    except (BrokenBody, TimeoutError):
        assert not incoming.is_spent()
    else:
        assert end is not None, "what is not whole for one must not be whole for the other"


def test_too_many_chunks_and_endless_lines_are_not_waited_for() -> None:
    for body in (b"1\r\na\r\n" * 100_001, b"1" * 9000, b"1;" + b"a" * 9000, b"0\r\n" + b"A: b\r\n" * 2000):
        incoming = begin(CHUNKED)
        assert incoming.find_end(CHUNKED + body) is None
        assert incoming.is_broken


def test_a_body_of_known_length() -> None:
    incoming = begin(SIZED)
    assert (incoming.wanted(SIZED + b"he"), incoming.find_end(SIZED + b"hell")) == (3, None)
    end = incoming.find_end(SIZED + b"hello, and more")
    assert end == len(SIZED) + 5
    incoming.complete((SIZED + b"hello, and more")[:end])
    assert incoming.request.body.read() == b"hello"
    assert incoming.is_spent()


@pytest.mark.parametrize("head", [SIZED, CHUNKED], ids=["length", "chunks"])
def test_what_is_missing_is_said_and_not_waited_for(head: bytes) -> None:
    incoming = begin(head)
    incoming.complete(head + b"3\r\n", TimeoutError("late"), whole=False)
    with pytest.raises(TimeoutError, match="late"):
        incoming.request.body.read()
    assert incoming.request.should_close()
    assert not incoming.is_spent()


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", errors.InvalidHeader),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", errors.LimitRequestHeaders),
        (b"GET / HTTP/1.1\r\nHost: a\n", errors.InvalidHeader),
        (b"GET / HTTP/1.1\r\n" + b"A: %s\r\n" % (b"a" * 8000) * 9 + b"\r\n", errors.LimitRequestHeaders),
    ],
)
def test_heads_that_are_refused(head: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        begin(head)


def test_connection_close_among_other_words() -> None:
    assert begin(HEAD + b"Connection: keep-alive, close\r\n\r\n").request.should_close()
    assert begin(HEAD + b"Connection: keep-alive\r\nConnection: close\r\n\r\n").request.should_close()
    assert not begin(HEAD + b"Connection: keep-alive\r\n\r\n").request.should_close()
    assert begin(b"GET / HTTP/1.0\r\n\r\n").request.should_close()


def test_the_time_that_a_head_had_is_told() -> None:
    assert str(HeadersTimeout(5.0)) == "the headers did not arrive within 5 s"
