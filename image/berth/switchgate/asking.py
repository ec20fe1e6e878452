"""The gate's ears: requests on fresh connections, each bounded in time and size, never through a proxy."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from berth.switchgate.heard import Addresses, Heard, Name

T = TypeVar("T")
Resolve = Callable[[str], Sequence[str]]
_BODY_BYTES = 16 << 20
_PORTS = {"http": 80, "https": 443}
# What a resolver says of a name that is not there, and of one that has no address now.
_UNKNOWN, _EMPTY = socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)


def resolve_name(host: str) -> list[str]:
    """The addresses of a name. Raises socket.gaierror."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result. Raises TimeoutError after `seconds`: DNS and dripping responses have no limit of their own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # whatever ends the call is for the thread that waits for it
            future.set_exception(error)

    threading.Thread(target=run, name="ask", daemon=True).start()
    return future.result(seconds)


def _name_of(error: socket.gaierror) -> Name:
    """A name without an address is there all the same; a resolver that fails knows nothing."""
    if error.errno == _UNKNOWN:
        return Name.UNKNOWN
    return Name.KNOWN if error.errno == _EMPTY else Name.UNSURE


@dataclass(frozen=True, slots=True)
class _Found:
    """What DNS returned for a name: addresses, or the reason for none."""

    name: Name
    addresses: Sequence[str] = ()
    fault: str = ""


def _look_up(resolve: Resolve, host: str, seconds: float) -> _Found:
    """The addresses of a name, in at most `seconds`. Silence is Name.UNSURE: nothing is known of the name then."""
    try:
        return _Found(Name.KNOWN, within(seconds, lambda: resolve(host)))
    except socket.gaierror as error:
        return _Found(_name_of(error), fault=str(error.strerror or error))
    except TimeoutError:
        return _Found(Name.UNSURE, fault=f"no response within {seconds:.3g} s")
    except (OSError, UnicodeError) as error:
        return _Found(Name.UNSURE, fault=getattr(error, "strerror", None) or repr(error))


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


class Line:
    """One connection to one Service, opened at the first request and again where the server has closed it."""

    def __init__(self, url: str, headers: dict[str, str], resolve: Resolve, look_up_seconds: float) -> None:
        parts = urlsplit(url)
        self._url, self._headers, self._resolve = url, headers, resolve
        self._look_up_seconds = look_up_seconds
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._connection: http.client.HTTPConnection | None = None
        self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left = True
        if self._connection is not None:
            # A request that was given up may still read: closing alone would wait for it.
            with contextlib.suppress(OSError, AttributeError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            self._connection.close()

    def _connect(self, addresses: Sequence[str], seconds: float) -> http.client.HTTPConnection:
        fault: OSError = OSError("the name has no address")
        for address in addresses:
            try:
                plain = socket.create_connection((address, self._port), seconds)
            except OSError as error:
                fault = error
                continue
            connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
            secure = ssl.create_default_context() if self._secure else None
            connection.sock = secure.wrap_socket(plain, server_hostname=self._host) if secure else plain
            return connection
        raise fault

    @property
    def _open(self) -> bool:
        return self._connection is not None and self._connection.sock is not None

    def _exchange(self, method: str, path: str, body: bytes | None, at: Sequence[str], seconds: float) -> Heard:
        if self._connection is None or not self._open:
            self._connection = self._connect(at, seconds)
        if self._left:
            self._connection.close()
            raise OSError("the wait for it is over")
        self._connection.sock.settimeout(seconds)
        began = time.monotonic()
        sent = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        self._connection.request(method, path, body, sent)
        response = self._connection.getresponse()
        content = response.read(_BODY_BYTES)
        took = time.monotonic() - began
        slot = response.headers.get("X-Berth-Slot") or ""
        request = f"{method} {self._url}{path}"
        return Heard(request, Name.KNOWN, response.status, slot, _parse(content), took, body=content)

    def ask(self, method: str, path: str, body: dict[str, Any] | None, seconds: float) -> Heard:
        """One request on this connection, in at most `seconds` once the name is resolved."""
        encoded = None if body is None else json.dumps(body).encode()
        request = f"{method} {self._url}{path}"
        # The look-up has a limit of its own: within the request's, its silence would look like the server's.
        found = _Found(Name.KNOWN) if self._open else _look_up(self._resolve, self._host, self._look_up_seconds)
        if found.fault:
            return Heard(request, found.name, fault=found.fault)
        try:
            return within(seconds, lambda: self._exchange(method, path, encoded, found.addresses, seconds))
        except TimeoutError:
            return Heard(request, fault=f"none within {seconds:.3g} s")
        except (OSError, http.client.HTTPException) as error:
            return Heard(request, fault=getattr(error, "strerror", None) or repr(error))


@dataclass(frozen=True, slots=True)
class Caller:
    """Opens lines and counts pods. `resolve` stands for the cluster's DNS; the key is in no sentence and no repr."""

    headers: dict[str, str]
    resolve: Resolve = resolve_name

    def __repr__(self) -> str:
        return "Caller(…)"

    def line(self, url: str, look_up_seconds: float, host: str = "") -> Line:
        """A fresh connection to a Service, whose name is resolved in at most `look_up_seconds`.

        `host` goes into the Host header in the place of the Service's own name, as clients of a gateway send it.
        """
        return Line(url, self.headers | ({"Host": host} if host else {}), self.resolve, look_up_seconds)

    def find_pods(self, host: str, port: int, seconds: float) -> list[str]:
        """The pods behind a headless name, as URLs; none where the name has no address."""
        try:
            found = within(seconds, lambda: self.resolve(host))
        except (TimeoutError, OSError):
            return []
        fours = [address for address in found if ":" not in address]
        return [f"http://{address}:{port}" for address in fours or [f"[{address}]" for address in found]]

    def count(self, host: str, seconds: float) -> Addresses:
        """How many pods stand behind a headless name. With two address families each pod has one of both."""
        found = _look_up(self.resolve, host, seconds)
        if found.name is Name.UNSURE:
            return Addresses(host, 0, found.fault)
        sixes = sum(":" in address for address in found.addresses)
        return Addresses(host, max(sixes, len(found.addresses) - sixes))


def key_headers(key: str) -> dict[str, str]:
    """The headers of every request. `Connection` is left alone: a line may carry two requests."""
    base = {"User-Agent": "berth-gate", "Accept": "application/json", "Accept-Encoding": "identity"}
    return base | ({"Authorization": f"Bearer {key}"} if key else {})
