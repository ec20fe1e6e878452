"""OCI registries: references, credentials as container tools keep them, manifests and blobs, checked by digest.

https://github.com/opencontainers/distribution-spec. Credentials are those of `docker login` and its like; they
go to their registry, or to the token service that it names, alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from berth.errors import IntegrityError, StoreError
from berth.models.manifest import FileDigest
from berth.pulling.https import WebRules, WebSource, open_client
from berth.pulling.transfer import ModelSource, Persistence, Stream, read_small

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_MANIFEST_TYPES = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
_INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFEST_BYTES = 4 << 20
_TOKEN_BYTES = 1 << 20
_REFERENCE = re.compile(
    r"(?P<registry>[A-Za-z0-9.-]+(?::\d{1,5})?)/(?P<repository>[a-z0-9._/-]{1,255}?)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?(?:#(?P<path>[^\s]{1,1000}))?"
)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PARAMETER = re.compile(r'([a-z]+)="([^"]{0,2000})"')
_ADVICE = "log in to the registry (docker login, crane auth login), or name the file with REGISTRY_AUTH_FILE"
_HERE = re.compile(r"(localhost|127\.[0-9.]+|[A-Za-z0-9.-]+\.local)(:\d+)?")
# RFC 1918: here plain http may be spoken, as crane does it, where no TLS is spoken.
_PRIVATE = re.compile(r"((10\.\d{1,3}|192\.168|172\.(1[6-9]|2\d|3[01]))(\.\d{1,3}){2})(?::(\d+))?")
_TLS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class OciReference:
    """REGISTRY/REPOSITORY:TAG@DIGEST#PATH, in parts; the last three may be empty."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""
    path: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"oci://{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def url(self) -> str:
        """Where the registry's API has this repository; plain http on this machine and for `.local` only."""
        host = {"docker.io": "registry-1.docker.io"}.get(self.registry, self.registry)
        return f"{'http' if _HERE.fullmatch(host) else 'https'}://{host}/v2/{self.repository}"


@dataclass(frozen=True, slots=True)
class OciLayer:
    """One blob of a manifest."""

    media_type: str
    digest: FileDigest
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OciManifest:
    """A manifest; `digest` is that of its bytes."""

    digest: str
    layers: tuple[OciLayer, ...]


def parse_reference(text: str) -> OciReference:
    """What follows `oci://`. Raises StoreError."""
    found = _REFERENCE.fullmatch(text.removeprefix("//"))
    if found is None or "//" in found["repository"]:
        raise StoreError(f"{text[:200]!r} is no reference: want oci://REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST")
    return OciReference(**{name: value or "" for name, value in found.groupdict().items()})


def _auth_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where container tools keep credentials, the first that is there wins."""
    if given := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(given)
        return
    if folder := environ.get("DOCKER_CONFIG"):
        yield Path(folder, "config.json")
    if folder := environ.get("XDG_RUNTIME_DIR"):
        yield Path(folder, "containers", "auth.json")
    if home := environ.get("HOME"):
        yield Path(home, ".docker", "config.json")


def read_basic(registry: str, environ: Mapping[str, str]) -> str:
    """The Authorization header for a registry; empty without a login. Raises StoreError."""
    names = (registry, f"https://{registry}", *(["https://index.docker.io/v1/"] if registry == "docker.io" else []))
    for file in _auth_files(environ):
        if not file.is_file():
            continue
        try:
            known = json.loads(file.read_text("utf-8")).get("auths", {})
            for name in names:
                if text := known.get(name, {}).get("auth"):
                    return f"Basic {text}"
        except (OSError, ValueError, AttributeError) as error:
            raise StoreError(
                f"{str(file)!r} does not hold a registry's credentials as docker login writes them"
            ) from error
    return ""


def speaks_tls(host: str, port: int) -> bool:
    """Whether a server begins TLS, with whatever certificate; True as well where no server can be reached."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only a look: nothing is said or believed
    try:
        with socket.create_connection((host, port), _TLS_SECONDS) as plain, context.wrap_socket(plain):
            return True
    except (ssl.SSLError, ConnectionResetError):
        return False
    except OSError:
        return True


class OciRegistry(ModelSource):
    """One repository of a registry. As a ModelSource its paths are digests of blobs."""

    def __init__(self, reference: OciReference, environ: Mapping[str, str], persistence: Persistence) -> None:
        self.reference = reference
        self.shown = f"oci://{reference.registry}/{reference.repository}"
        self._environ, self._persistence = environ, persistence

    @cached_property
    def url(self) -> str:
        """Where its API is: that of the reference, by plain http at a private address where no TLS is spoken."""
        found = _PRIVATE.fullmatch(self.reference.registry)
        if found is None or speaks_tls(found[1], int(found[5] or 443)):
            return self.reference.url
        return self.reference.url.replace("https:", "http:", 1)

    def authorize(self, actions: str = "pull") -> str:
        """The Authorization header for `actions` on this repository; tokens live for minutes, so ask each time.

        Raises StoreError, also where credentials would go to a private address unencrypted.
        """
        parts = urlsplit(self.url)
        basic = read_basic(self.reference.registry, self._environ)
        if basic and self.url != self.reference.url:
            raise StoreError(
                f"{self.shown} speaks no TLS, so the credentials for it are not sent; give the registry a certificate, "
                f"or log out of it (docker logout {self.reference.registry}) and let it be read without"
            )
        challenge = self._persistence.run(self.shown, lambda: self._ping(f"{parts.scheme}://{parts.netloc}/v2/"))
        kind, _, rest = challenge.partition(" ")
        if kind.lower() != "bearer":
            return basic if kind else ""
        found = dict(_PARAMETER.findall(rest))
        realm = urlsplit(found.get("realm", ""))
        if realm.scheme != "https" and realm.netloc != parts.netloc:
            raise StoreError(f"{self.shown}: its token service {found.get('realm', '')[:200]!r} is not https")
        query = {"service": found.get("service", ""), "scope": f"repository:{self.reference.repository}:{actions}"}
        url = f"{found['realm']}{'&' if realm.query else '?'}{urlencode(query)}"
        source = WebSource(url, basic, self._persistence, WebRules(advice=_ADVICE))
        try:
            document = json.loads(read_small(source, "", _TOKEN_BYTES, self._persistence))
            return f"Bearer {document.get('token') or document['access_token']}"
        except (ValueError, KeyError, AttributeError) as error:
            raise StoreError(f"{self.shown}: its token service sends no token") from error

    def _ping(self, url: str) -> str:
        """The challenge of a registry that wants credentials; empty of one that does not."""
        import httpx

        try:
            with open_client(WebRules()) as client, client.stream("GET", url) as response:
                return response.headers.get("WWW-Authenticate", "") if response.status_code == 401 else ""
        except httpx.HTTPError as error:
            raise ConnectionError(f"{self.shown} cannot be reached: {error}") from error

    def _source(self, kind: str, accept: str = "*/*") -> WebSource:
        rules = WebRules(advice=_ADVICE, accept=accept)
        return WebSource(f"{self.url}/{kind}", self.authorize(), self._persistence, rules)

    def open(self, path: str, offset: int = 0, tag: str = "") -> AbstractContextManager[Stream]:
        """A blob's bytes from `offset`; `path` is its digest."""
        return self._source("blobs").open(path, offset, tag)

    def read_manifest(self, wanted: str = "") -> OciManifest:
        """The manifest of the reference; of an index with one image that image's. Raises StoreError, IntegrityError."""
        name = wanted or self.reference.digest or self.reference.tag or "latest"
        text = read_small(
            self._source("manifests", ", ".join(_MANIFEST_TYPES + _INDEX_TYPES)),
            name,
            _MANIFEST_BYTES,
            self._persistence,
        )
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        if name.startswith("sha256:") and name != digest:
            raise IntegrityError(f"{self.shown} sends a manifest with the digest {digest} in place of {name}")
        try:
            document = json.loads(text)
            if "manifests" in document:
                (only,) = [row for row in document["manifests"] if row.get("platform", {}).get("os") != "unknown"]
                return self.read_manifest(str(only["digest"]))
            return OciManifest(digest, tuple(_parse_layer(row) for row in document["layers"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"{self.reference} is no image or artifact with layers, or an index of several: name one by its digest"
            ) from error


def _parse_layer(row: Mapping[str, Any]) -> OciLayer:
    found = _DIGEST.fullmatch(str(row["digest"]))
    size = row["size"]
    if found is None or not isinstance(size, int) or size < 0:
        raise ValueError("a layer needs a sha256 digest and a size")
    annotations: dict[str, str] = {}
    with suppress(AttributeError):
        annotations = {str(key): str(value) for key, value in row.get("annotations", {}).items()}
    return OciLayer(str(row.get("mediaType", "")), FileDigest(found[1], size), annotations)
