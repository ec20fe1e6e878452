"""A stream of rows from a pod of the cluster, one of several kinds; prints what came back as JSON.

    python stream_client.py KIND HOST PORT NAME ROWS [CONNECTION]

It needs nothing but Python. NAME is the Host that a proxy chooses its backend by; CONNECTION is the value of that
header, without which none is sent. The kinds:

    turns     each row is sent when the line of the one before has come; a proxy that keeps rows or lines stops this
    slow      send until nobody takes more, ask for single predictions meanwhile, and then read everything
    leave     reset the connection with lines under way
    resume    a row every 20 ms; where the server ends the stream, the rest goes into another one
    long      a line of 200,000 bytes between two rows
    crowd     ROWS streams at once: how many got which status
"""

from __future__ import annotations

import collections
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

HEAD = (
    "POST /predict?outputs=prediction HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n"
    "Transfer-Encoding: chunked\r\n{}\r\n"
)
ROW = b"[5.1, 3.5, 1.4, 0.2]\n"
Answer = dict[str, Any]


class Stream:
    """One stream over a socket, written and read in pieces. `seconds` limits every wait."""

    def __init__(self, address: tuple[str, int], name: str, connection: str = "") -> None:
        self.sock = socket.create_connection(address, 5)
        self.file = self.sock.makefile("rb")
        header = f"Connection: {connection}\r\n" if connection else ""
        self.sock.sendall(HEAD.format(name, header).encode())

    def send(self, data: bytes) -> None:
        """One chunk of the body."""
        self.sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        """The end of the body."""
        self.sock.sendall(b"0\r\n\r\n")

    def read_status(self) -> int:
        """The status, its headers skipped. Raises ConnectionError where none comes."""
        if not (line := self.file.readline()):
            raise ConnectionResetError("no response")
        while self.file.readline() not in (b"\r\n", b""):
            pass
        return int(line.split()[1])

    def chunks(self) -> Iterator[bytes]:
        """The chunks of the response. Raises ConnectionError where it breaks off."""
        while True:
            if not (head := self.file.readline()):
                raise ConnectionResetError("the response broke off")
            if not (size := int(head, 16)):
                self.file.readline()
                return
            yield self.file.read(size)
            self.file.readline()

    def close(self) -> None:
        """Leave."""
        self.file.close()
        self.sock.close()


def turns(stream: Stream, rows: int) -> Answer:
    """How many rows were answered before the next one was sent, and the slowest answer in seconds."""
    answered, slowest, status = 0, 0.0, 0
    chunks: Iterator[bytes] = iter(())
    try:
        for _ in range(rows):
            began = time.monotonic()
            stream.send(ROW)
            if not status:
                status, chunks = stream.read_status(), stream.chunks()
            if next(chunks) != b'{"prediction":0}\n':
                break
            answered, slowest = answered + 1, max(slowest, time.monotonic() - began)
        stream.end()
        return {"status": status, "answered": answered, "slowest": slowest, "rest": len(b"".join(chunks))}
    except TimeoutError:  # somebody keeps the rows until there are more
        return {"status": status, "answered": answered}


def predict_once(address: tuple[str, int], name: str) -> int:
    """The status of one plain prediction."""
    connection = http.client.HTTPConnection(*address, timeout=5)
    body = json.dumps({"features": [5.1, 3.5, 1.4, 0.2]})
    connection.request("POST", "/predict", body, {"Host": name, "Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def slow(stream: Stream, most: int, ask: Callable[[], int]) -> Answer:
    """A reader that reads nothing until its rows are not taken any more; at most so many thousands of them."""
    sent, enough = 0, threading.Event()
    stream.sock.settimeout(60)

    def send() -> None:
        nonlocal sent
        while sent < most and not enough.is_set():
            stream.send(ROW * 1000)
            sent += 1
        stream.end()

    sender = threading.Thread(target=send)
    sender.start()
    seen = -1
    while sent > seen and sender.is_alive():
        seen = sent
        time.sleep(1)
    stopped = sender.is_alive()
    beside = collections.Counter(str(ask()) for _ in range(20))
    enough.set()
    status = stream.read_status()
    lines = sum(chunk.count(b"\n") for chunk in stream.chunks())
    sender.join(60)
    return {"status": status, "stopped": stopped, "sent": sent * 1000, "lines": lines, "beside": beside}


def leave(stream: Stream, rows: int) -> Answer:
    """Reset the connection while lines are under way."""
    stream.send(ROW * rows)
    status = stream.read_status()
    next(stream.chunks())
    stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    stream.close()
    return {"status": status}


def resume(make: Callable[[], Stream], rows: int) -> Answer:
    """Rows one after another, through as many streams as it takes; every early end as its code, or its exception."""
    done, ends, statuses = 0, list[str](), collections.Counter[str]()
    until = time.monotonic() + 60
    while done < rows and time.monotonic() < until:
        try:
            stream = make()
            status = 0
            chunks: Iterator[bytes] = iter(())
            while done < rows:
                stream.send(ROW)
                if not status:
                    statuses[str(status := stream.read_status())] += 1
                    if status != 200:
                        break
                    chunks = stream.chunks()
                lines = [json.loads(line) for line in next(chunks).splitlines()]  # a proxy may join two
                done += sum("error" not in line for line in lines)
                if "error" in lines[-1]:
                    ends.append(lines[-1]["code"])
                    with suppress(StopIteration):
                        next(chunks)
                        ends.append("no end")
                    break
                time.sleep(0.02)
            stream.close()
        except (OSError, StopIteration) as error:
            ends.append(repr(error))
        time.sleep(0.1)
    return {"done": done, "ends": ends, "statuses": statuses}


def long(stream: Stream) -> Answer:
    """A line that is too long, between two rows."""
    stream.send(ROW + b"1" * 200_000 + b"\n" + ROW)
    stream.end()
    status = stream.read_status()
    lines = b"".join(stream.chunks()).splitlines()
    return {"status": status, "lines": [json.loads(line).get("code", "predicted") for line in lines]}


def crowd(make: Callable[[], Stream], number: int) -> Answer:
    """So many streams that are open at once."""
    streams = [make() for _ in range(number)]
    for stream in streams:
        stream.send(ROW)
    statuses = collections.Counter(str(stream.read_status()) for stream in streams)
    for stream in streams:
        stream.close()
    return {"statuses": statuses}


def main(kind: str, host: str, port: str, name: str, rows: str, connection: str = "") -> Answer:
    """What came of it."""
    address, number = (host, int(port)), int(rows)

    def make() -> Stream:
        return Stream(address, name, connection)

    if kind in ("resume", "crowd"):
        return {"resume": resume, "crowd": crowd}[kind](make, number)
    if kind == "slow":
        return slow(make(), number // 1000, lambda: predict_once(address, name))
    return long(make()) if kind == "long" else {"turns": turns, "leave": leave}[kind](make(), number)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
