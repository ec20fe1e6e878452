"""Streams of the worker: each is a thread of its own, outside of the pool, and the main thread never waits for one.

    main thread    head -> taken off the poller -> [thread] -> closed gently
    thread         read a chunk of lines, predict, write, and again: no more is read than is written

A stream holds one chunk of lines, one line that is not whole, and one piece of 64 KiB. There are at most MOST_STREAMS
in a worker; another one gets 429. The connection closes after a stream.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Protocol

from berth.web.status_lines import STATUS_LINES
from berth.worker.connections import Connection, Connections
from berth.worker.http1 import encode_response
from berth.worker.stream_body import ChunkedBody, SizedBody
from berth.worker.stream_socket import StreamSocket

MOST_STREAMS = 32
_FULL = b'{"error":"this worker has as many streams as it can take; try again","code":"overloaded","request_id":""}'


class StreamHost(Protocol):
    """What a stream needs of the worker."""

    alive: bool
    cfg: Any
    log: Any
    method_queue: Any
    wsgi: Any
    exchange_seconds: float


def _environ(conn: Connection) -> dict[str, Any]:
    """What the pipeline reads of a request's head, as WSGI names it."""
    request = conn.incoming.request
    environ = {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query or "",
        "REMOTE_ADDR": conn.host,
    }
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


class StreamThreads:
    """Takes streams from the main thread and gives their connections back to be closed."""

    def __init__(self, worker: StreamHost, connections: Connections) -> None:
        self._worker, self._connections = worker, connections
        # The application's (StreamAnswers); None with another application.
        self._streams: Any = getattr(getattr(worker.wsgi, "extensions", {}).get("berth"), "streams", None)
        self._running = 0

    def take(self, conn: Connection) -> bool:
        """Begin the stream whose head has come, if it is one. On the main thread."""
        request = conn.incoming.request
        if self._streams is None or request.path != self._streams.path or request.method != "POST":
            return False
        content_type = next((value for name, value in request.headers if name == "CONTENT-TYPE"), "")
        if not self._streams.is_stream(content_type):
            return False
        self._connections.rest(conn)
        received = bytes(memoryview(conn.received)[conn.incoming.head_bytes :])
        conn.received = b""
        self._connections.count(conn)
        self._running += 1
        threading.Thread(target=self._serve, args=(conn, received, self._running), name="stream", daemon=True).start()
        return True

    def _serve(self, conn: Connection, received: bytes, running: int) -> None:
        worker = self._worker
        try:
            self._run(conn, self._make_ends(conn, received), running)
        except OSError as error:
            worker.log.debug("the client left its stream: %s", error)
        except Exception:  # the edge of the thread: the client sees a response that breaks off
            worker.log.exception("a stream broke")
        with suppress(Exception):  # the worker has ended
            worker.method_queue.defer(self._end, conn)

    def _make_ends(self, conn: Connection, received: bytes) -> StreamSocket:
        incoming, worker = conn.incoming, self._worker
        return StreamSocket(
            conn.sock,
            received,
            ChunkedBody() if incoming.is_chunked else SizedBody(incoming.body_bytes),
            self._streams.max_line_bytes,
            lambda: not worker.alive,
            chunks_out=incoming.request.version >= (1, 1),
            idle_seconds=worker.cfg.keepalive,
            write_seconds=worker.exchange_seconds,
        )

    def _run(self, conn: Connection, ends: StreamSocket, running: int) -> None:
        chunks_out = conn.incoming.request.version >= (1, 1)
        if running > MOST_STREAMS:
            fields = [("Content-Type", "application/json"), ("Content-Length", str(len(_FULL))), ("Retry-After", "1")]
            ends.write_head(encode_response(STATUS_LINES[429], fields, _FULL, closes=True))
            return
        from berth.web.pipeline import Finished  # gunicorn's master imports this file, and needs nothing of web/

        opened = self._streams.open(_environ(conn))
        if isinstance(opened, Finished):
            fields = [field for field in opened.headers if field != ("Connection", "close")]
            ends.write_head(encode_response(STATUS_LINES[opened.status], fields, opened.body, closes=True))
            return
        if conn.incoming.expects_continue():
            ends.send_continue()
        fields = self._streams.head_fields(opened[0])
        if chunks_out:
            fields.append(("Transfer-Encoding", "chunked"))
        ends.write_head(encode_response(STATUS_LINES[200], fields, b"", closes=True))
        self._streams.run(*opened, ends)
        if not isinstance(ends.cut, ConnectionError):
            ends.finish()

    def _end(self, conn: Connection) -> None:
        """On the main thread: the stream is over."""
        self._running -= 1
        if not conn.closed:
            self._connections.close_gently(conn)
