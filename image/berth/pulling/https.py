"""Stores behind http and https: a listing or index.json (what `berth list --json` prints), and files by range."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.message import Message
from html.parser import HTMLParser
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from berth.errors import BerthError, StoreError
from berth.models.store import WORD
from berth.pulling.transfer import CHUNK_BYTES, Cut, Persistence, Stream, read_small

_SECONDS = 30.0
_INDEX_BYTES = 16 << 20
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def show_url(url: str) -> str:
    """A URL without what may be a secret in it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Never from https to anything else, and never with the key to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """The request to the new place. Raises StoreError for a place that is not safe."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise StoreError(f"{show_url(req.full_url)} leads to {show_url(newurl)}, which is not followed")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            request.remove_header("Authorization")
        return request


class _Links(HTMLParser):
    """The folders that a directory listing links to."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self._base = base
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one link, if it leads to a folder right below the listing."""
        href = dict(attrs).get("href") if tag == "a" else None
        path, base = urlsplit(urljoin(self._base, href or "")).path, urlsplit(self._base).path
        name = unquote(path.removeprefix(base).rstrip("/"))
        if path.startswith(base) and path.endswith("/") and WORD.fullmatch(name):
            self.found.append(name)


def _pause(headers: Message) -> float:
    value = headers.get("Retry-After") or ""
    return float(value) if value.isdigit() else 0.0


def _refused(error: urllib.error.HTTPError, shown: str) -> Exception:
    """What an error status means: try again, or not."""
    error.close()
    if error.code in _AGAIN:
        return Cut(f"{shown} answered {error.code}", _pause(error.headers))
    if error.code in (401, 403):
        return StoreError(
            f"{shown} answered {error.code}: set STORE_TOKEN, or STORE_USERNAME and STORE_PASSWORD, "
            "in the environment of this command"
        )
    reason = "it is not there" if error.code == 404 else " ".join(str(error.reason).split())
    return StoreError(f"{shown} answered {error.code}: {reason}")


def _unreached(error: Exception, shown: str) -> Exception:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return StoreError(f"{shown}: its certificate is not trusted: {reason.verify_message}; set SSL_CERT_FILE")
    return Cut(f"{shown} cannot be reached: {reason or type(error).__name__}")


class WebSource:
    """A store below a URL. `authorization` is the value of that header; it goes to this host alone."""

    def __init__(self, url: str, authorization: str, persistence: Persistence) -> None:
        self._parts = urlsplit(url)
        self.shown = show_url(url)
        if self._parts.username or self._parts.password:
            raise StoreError(f"{self.shown}: no credentials in the URI; set STORE_USERNAME and STORE_PASSWORD")
        self._authorization = authorization
        self._persistence = persistence
        self._opener = urllib.request.build_opener(_Redirects())
        self._index: dict[str, list[str]] | None = None

    def _url(self, path: str) -> str:
        """The URL of a path, "/" being the listing; of "" the URL as it was given. A query goes with every path."""
        whole = f"{self._parts.path.rstrip('/')}/{quote(path.lstrip('/'))}" if path else self._parts.path
        return urlunsplit((self._parts.scheme, self._parts.netloc, whole, self._parts.query, ""))

    def _request(self, path: str, offset: int, tag: str) -> urllib.request.Request:
        request = urllib.request.Request(self._url(path))  # noqa: S310 - the scheme is http or https: sources.py
        request.add_header("Accept-Encoding", "identity")
        request.add_header("User-Agent", "berth-pull")
        if self._authorization:
            request.add_header("Authorization", self._authorization)
        if offset:
            request.add_header("Range", f"bytes={offset}-")
            if tag:
                request.add_header("If-Range", tag)
        return request

    @contextmanager
    def open(self, path: str, offset: int = 0, tag: str = "") -> Iterator[Stream]:
        """A file's bytes from `offset`, or from 0 where the server does not know ranges."""
        shown = show_url(self._url(path))
        try:
            with closing(self._answer(path, offset, tag)) as response:
                yield _stream(response, offset, shown)
        except (BerthError, Cut):
            raise
        except urllib.error.HTTPError as error:
            raise _refused(error, shown) from error
        except (OSError, http.client.HTTPException) as error:
            raise _unreached(error, shown) from error

    def _answer(self, path: str, offset: int, tag: str) -> Any:
        try:
            return self._opener.open(self._request(path, offset, tag), timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not offset:
                raise
            error.close()  # our part is as long as the file or longer: from the beginning
            return self._opener.open(self._request(path, 0, ""), timeout=_SECONDS)

    def movable(self, path: str) -> Path | None:
        """Nothing here is on this disk."""
        return None

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
        links = _Links(self._url(path))
        links.feed(page.decode("utf-8", "replace"))
        return list(dict.fromkeys(links.found))


def _parse_index(text: bytes, shown: str) -> dict[str, list[str]]:
    """index.json as `berth list --json` prints it: a list of objects with name and version. Raises StoreError."""
    index: dict[str, list[str]] = {}
    try:
        for row in json.loads(text):
            index.setdefault(str(row["name"]), []).append(str(row["version"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(f"index.json of {shown} must be what `berth list --json` prints: {error!r}") from error
    return index


def _stream(response: Any, offset: int, shown: str) -> Stream:
    """The answer as a stream that knows where it begins and how long the whole is."""
    headers = response.headers
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    tag = "" if tag.startswith("W/") else tag  # a weak one does not promise the same bytes
    length = headers.get("Content-Length")
    start, total = 0, int(length) if length and length.isdigit() else None
    if response.status == 206:
        found = _RANGE.fullmatch(headers.get("Content-Range") or "")
        if found is None or int(found[1]) != offset:
            raise Cut(f"{shown} answered another range than bytes {offset}-")
        start, total = offset, None if found[2] == "*" else int(found[2])
    return Stream(start, total, tag, iter(lambda: response.read(CHUNK_BYTES), b""))
