"""Stores behind http and https: a listing or index.json (what `berth list --json` prints), and files by range."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from berth.errors import StoreError
from berth.models.store import WORD
from berth.pulling.transfer import Cut, ModelSource, Persistence, Stream, read_small
from berth.pulling.watch import Watch

if TYPE_CHECKING:
    import httpx

_SECONDS = 30.0
_REDIRECTS = 10
_INDEX_BYTES = 16 << 20
_MESSAGE_BYTES = 4 << 10
_MOST_SHOWN = 300
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
# At most 19 digits: int() refuses thousands of them.
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_PAUSE = re.compile(r"[0-9]{1,9}")
# Bounded, so that a page of half links takes no longer to read than one of links.
_LINK = re.compile(r"""<a\s[^<>]{0,300}?\bhref\s{0,9}=\s{0,9}["']?([^"'<>\s]{1,1000})""", re.IGNORECASE)


@dataclass(frozen=True)
class WebRules:
    """How a host is reached. `advice` is what to do about 401 and 403, `only_here` refuses redirects to other hosts."""

    advice: str = "set STORE_TOKEN, or STORE_USERNAME and STORE_PASSWORD, in the environment of this command"
    only_here: bool = False
    ca_file: str = ""
    client_certificate: str = ""
    accept: str = "*/*"
    explains: bool = False  # an error's body is JSON with a message for people


def show_url(url: str) -> str:
    """A URL without what may be a secret in it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))


def _pause(text: str) -> float:
    return float(text) if _PAUSE.fullmatch(text) else 0.0


def _read_message(response: httpx.Response) -> str:
    """The message in the JSON body of an error, empty without one."""
    text = bytearray()
    for chunk in response.iter_raw(_MESSAGE_BYTES):
        text += chunk
        if len(text) >= _MESSAGE_BYTES:
            break
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        return " ".join(str(json.loads(text)["message"]).split())[:_MOST_SHOWN]
    return ""


def _refused(response: httpx.Response, shown: str, advice: str, message: str) -> Exception:
    """What an error status means: try again, or not."""
    status = response.status_code
    if status in _AGAIN:
        return Cut(f"{shown} returned {status}", _pause(response.headers.get("Retry-After", "")))
    if status in (401, 403):
        return StoreError(f"{shown} returned {status}: {advice}")
    reason = message or ("it is not there" if status == 404 else " ".join(response.reason_phrase.split()))
    return StoreError(f"{shown} returned {status}: {reason}")


def _unreached(error: BaseException, shown: str) -> Exception:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return StoreError(f"{shown}: its certificate is not trusted: {cause.verify_message}; set SSL_CERT_FILE")
    return Cut(f"{shown} cannot be reached: {str(error) or type(error).__name__}")


def _check_redirect(old: httpx.URL, new: httpx.URL, only_here: bool) -> None:
    """That a redirect stays in the web, never leaves https, and brings no credentials. Raises StoreError."""
    if only_here and (old.host, old.port) != (new.host, new.port):
        raise StoreError(
            f"{show_url(str(old))} leads to another host, {new.host}, which is not followed: its files must come from "
            "the server itself"
        )
    if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http") or new.userinfo:
        raise StoreError(f"{show_url(str(old))} leads to {show_url(str(new))}, which is not followed")


def _make_context(rules: WebRules) -> ssl.SSLContext:
    """The system's certificates, or SSL_CERT_FILE's, or those of the rules. Raises StoreError."""
    try:
        context = ssl.create_default_context(cafile=rules.ca_file or None)
        if rules.client_certificate:
            context.load_cert_chain(rules.client_certificate)
    except (OSError, ssl.SSLError) as error:
        raise StoreError(
            f"the certificates {rules.ca_file} {rules.client_certificate} cannot be read: {error}"
        ) from error
    return context


def open_client(rules: WebRules) -> httpx.Client:
    """The client, with the proxies of the environment; one connection a request. Raises StoreError."""
    import httpx

    try:
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(verify=_make_context(rules), timeout=_SECONDS, limits=limits)
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        raise StoreError(f"a proxy in the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY): {error}") from error


class WebSource(ModelSource):
    """A store below a URL. `authorization` is the value of that header; it goes to this host alone."""

    def __init__(self, url: str, authorization: str, persistence: Persistence, rules: WebRules = WebRules()) -> None:
        self._rules = rules
        self._parts = urlsplit(url)
        self.shown = show_url(url)
        if self._parts.username or self._parts.password:
            raise StoreError(f"{self.shown}: no credentials in the URI; set STORE_USERNAME and STORE_PASSWORD")
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "berth-pull", "Accept": rules.accept}
        if authorization:
            self._headers["Authorization"] = authorization
        self._persistence = persistence
        self._client = open_client(rules)
        self._index: dict[str, list[str]] | None = None

    def _url(self, path: str) -> str:
        """The URL of a path, "/" being the listing; of "" the URL as it was given. A query goes with every path."""
        whole = f"{self._parts.path.rstrip('/')}/{quote(path.lstrip('/'), safe='/:')}" if path else self._parts.path
        return urlunsplit((self._parts.scheme, self._parts.netloc, whole, self._parts.query, ""))

    @contextmanager
    def open(self, path: str, offset: int = 0, tag: str = "") -> Iterator[Stream]:
        """A file's bytes from `offset`, or from 0 where the server does not know ranges."""
        import httpx

        url = self._url(path)
        shown = show_url(url)
        with Watch(self._persistence.window) as watch:
            try:
                with closing(self._answer(url, offset, tag, watch)) as response:
                    yield _stream(response, offset, shown, watch)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
                raise StoreError(f"{shown} cannot be fetched: {error}") from error
            except httpx.HTTPError as error:
                raise (watch.error(shown) if watch.cut else _unreached(error, shown)) from error

    def _answer(self, url: str, offset: int, tag: str, watch: Watch) -> httpx.Response:
        """The response, from the beginning where ours is no part of what the server has. Raises StoreError, Cut."""
        ranged = {"Range": f"bytes={offset}-"} | ({"If-Range": tag} if tag else {}) if offset else {}
        response = self._follow(url, self._headers | ranged, watch)
        other = response.status_code == 206 and tag and _tag(response.headers) != tag
        if response.is_success and not other:
            return response
        message = _read_message(response) if self._rules.explains else ""
        response.close()
        if offset and (other or response.status_code == 416):
            return self._answer(url, 0, "", watch)
        raise _refused(response, show_url(url), self._rules.advice, message)

    def _follow(self, url: str, headers: dict[str, str], watch: Watch) -> httpx.Response:
        """The first response that leads nowhere else. The bodies of the others stay unread, they may be endless."""
        request = self._client.build_request("GET", url, headers=headers, extensions={"trace": watch.trace})
        for _ in range(_REDIRECTS):
            response = self._client.send(request, stream=True)
            if (following := response.next_request) is None:
                return response
            response.close()
            _check_redirect(request.url, following.url, self._rules.only_here)
            request = following
        raise StoreError(f"{show_url(url)} leads to more than {_REDIRECTS} other places, one after the other")

    def list_names(self) -> list[str]:
        """The models of index.json, else the folders of the listing."""
        index = self._read_index()
        return sorted(index) if index else self._list("/")

    def list_versions(self, name: str) -> list[str]:
        """A model's versions, likewise."""
        index = self._read_index()
        return index.get(name, []) if index else self._list(f"{name}/")

    def _read_index(self) -> dict[str, list[str]]:
        if self._index is None:
            try:
                text = read_small(self, "index.json", _INDEX_BYTES, self._persistence)
            except StoreError as error:
                if isinstance(error.__cause__, ConnectionError):
                    raise
                text = b"[]"
            self._index = _parse_index(text, self.shown)
        return self._index

    def _list(self, path: str) -> list[str]:
        page = read_small(self, path, _INDEX_BYTES, self._persistence)
        return _find_folders(page.decode("utf-8", "replace"), self._url(path))


def _find_folders(page: str, url: str) -> list[str]:
    """The folders right below `url` that a directory listing links to."""
    base, found = urlsplit(url).path, []
    for link in _LINK.findall(page):
        with suppress(ValueError):  # what urljoin takes for no URL
            path = urlsplit(urljoin(url, link)).path
            if path.startswith(base) and path.endswith("/"):
                found.append(unquote(path.removeprefix(base).rstrip("/")))
    return [name for name in dict.fromkeys(found) if WORD.fullmatch(name)]


def _parse_index(text: bytes, shown: str) -> dict[str, list[str]]:
    """index.json as `berth list --json` prints it: a list of objects with name and version. Raises StoreError."""
    index: dict[str, list[str]] = {}
    try:
        for row in json.loads(text):
            index.setdefault(str(row["name"]), []).append(str(row["version"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(f"index.json of {shown} must be what `berth list --json` prints: {error}") from error
    return index


def _tag(headers: Mapping[str, str]) -> str:
    """What names the file's state; a weak one does not promise the same bytes."""
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    return "" if tag.startswith("W/") else tag


def _chunks(response: httpx.Response, total: int | None, shown: str, watch: Watch) -> Iterator[bytes]:
    """The body as it comes; with a known total its reader notices that it ends early."""
    import httpx

    try:
        for chunk in response.iter_raw():
            watch.count(len(chunk))
            yield chunk
    except (httpx.NetworkError, httpx.RemoteProtocolError):
        if total is None or watch.cut:
            raise
    if watch.cut:  # without a length, the end of a connection is the end of a body
        raise watch.error(shown)


def _stream(response: httpx.Response, offset: int, shown: str, watch: Watch) -> Stream:
    """The response as a stream that knows where it begins and how long the whole is. Raises StoreError, Cut."""
    headers = response.headers
    coding = headers.get("Content-Encoding", "identity")
    # Servers call an archive's own compression an encoding; its bytes are the right ones.
    if coding != "identity" and not urlsplit(str(response.request.url)).path.lower().endswith((".gz", ".tgz")):
        raise StoreError(f"{shown} is sent with Content-Encoding {coding[:40]!r}: switch compression off at the server")
    length = headers.get("Content-Length")
    start, total = 0, int(length) if length and "Transfer-Encoding" not in headers else None
    if response.status_code == 206:
        text = headers.get("Content-Range", "")
        found = _RANGE.fullmatch(text)
        first, last, whole = (int(one) if one != "*" else None for one in found.groups()) if found else (None,) * 3
        if first != offset or last is None or not first <= last < (whole or last + 1):
            raise Cut(f"{shown} returned the range {text[:80]!r} where bytes {offset}- were requested")
        start, total = first, whole
    return Stream(start, total, _tag(headers), _chunks(response, total, shown, watch))
