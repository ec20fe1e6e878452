"""The other pods of a slot: their addresses, and what they have counted."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException

from berth.errors import SettingsError
from berth.experiments.count_state import decode_state
from berth.experiments.marks import PeerCounts, decode_mark
from berth.experiments.peer_tokens import HEADER

SETTING = "BERTH_PEERS"
PATH = "/experiments/state"
_TIMEOUT_SECONDS = 2.0
# A state of 32 experiments over a hundred workers has a few megabytes.
_MOST_BYTES = 64 << 20


def parse_peers(text: str) -> tuple[tuple[str, int], ...]:
    """HOST:PORT,… as pairs. Raises SettingsError."""
    found = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        host, _, port = word.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536:
            raise SettingsError(f"{SETTING}={text!r} must be HOST:PORT,…, such as iris-berth-blue-pods:8000")
        found.append((host.strip("[]"), int(port)))
    return tuple(found)


def find_addresses(peers: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Every address behind the names; a name that has none at the moment is skipped."""
    found: dict[tuple[str, int], None] = {}
    for host, port in peers:
        try:
            listed = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            continue
        found |= dict.fromkeys((str(address[0]), port) for *_, address in listed)
    return list(found)


def fetch_state(host: str, port: int, token: str) -> PeerCounts:
    """What one peer knows. Raises OSError, HTTPException, ValueError."""
    connection = HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", PATH, headers={HEADER: token} if token else {})
        response = connection.getresponse()
        body = response.read(_MOST_BYTES)
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        document = json.loads(body)
        return PeerCounts(decode_state(document["state"]), decode_mark(document.get("mark")))
    finally:
        connection.close()


def fetch_states(peers: Sequence[tuple[str, int]], make_token: Callable[[], str]) -> list[PeerCounts]:
    """What the peers that can be reached know."""
    found = []
    for host, port in find_addresses(peers):
        try:
            found.append(fetch_state(host, port, make_token()))
        except (
            OSError,
            HTTPException,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ):  # gone, starting, or of another version
            continue
    return found
