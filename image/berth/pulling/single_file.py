"""One model file from a web server or a bucket, for `berth add`; with `#sha256=…` behind the URI, exactly that file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from berth.errors import IntegrityError, StoreError
from berth.models.manifest import digest_file
from berth.pulling.authorization import store_authorization
from berth.pulling.bucket import open_bucket
from berth.pulling.https import WebSource
from berth.pulling.origin import Fetched, check_file_names
from berth.pulling.transfer import ModelSource, Persistence, fetch_sized, find_room

_DIGEST = re.compile(r"sha256=([0-9a-f]{64})")


def _file_name(path: str, shown: str) -> str:
    name = PurePosixPath(unquote(path)).name
    check_file_names([name], shown)
    return name


def _fetch(source: ModelSource, name: str, digest: str, into: Path, persistence: Persistence) -> Fetched:
    to = into / name
    fetch_sized(source, "", to, None, find_room(into, 0), persistence)
    found = digest_file(to)
    if digest and found.sha256 != digest:
        raise IntegrityError(f"{source.shown} has sha256 {found.sha256}, but the URI says {digest}")
    return Fetched(to, {"uri": source.shown, "sha256": found.sha256, "bytes": found.bytes})


def _split_digest(rest: str) -> tuple[str, str]:
    """(rest, digest) of what may end in #sha256=…. Raises StoreError."""
    place, hash_, end = rest.partition("#")
    if not hash_:
        return rest, ""
    if (found := _DIGEST.fullmatch(end)) is None:
        raise StoreError(f"the URI ends in #{end[:80]}: want #sha256= and 64 hex digits, or nothing")
    return place, found[1]


def fetch_web_file(scheme: str, rest: str, environ: Mapping[str, str], into: Path, persistence: Persistence) -> Fetched:
    """The file at `scheme`:`rest`; credentials go to its host alone. Raises StoreError, IntegrityError."""
    place, digest = _split_digest(rest)
    source = WebSource(f"{scheme}:{place}", store_authorization(environ), persistence)
    return _fetch(source, _file_name(urlsplit(f"{scheme}:{place}").path, source.shown), digest, into, persistence)


def fetch_bucket_file(
    scheme: str, rest: str, environ: Mapping[str, str], into: Path, persistence: Persistence
) -> Fetched:
    """The file of a bucket, whose library reads its credentials itself. Raises StoreError, IntegrityError."""
    del environ
    place, digest = _split_digest(rest.removeprefix("//"))
    source = persistence.run(f"{scheme}://{place}", lambda: open_bucket(scheme, place))
    return _fetch(source, _file_name(place, source.shown), digest, into, persistence)
