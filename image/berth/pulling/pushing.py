"""A version as an OCI image, for image volumes: one layer with NAME/VERSION, equal bytes for equal content."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from berth.errors import StoreError
from berth.models.manifest import MANIFEST, SIGNATURE, digest_file
from berth.models.store import Entry, verify_version
from berth.pulling.https import WebRules, open_client, show_url
from berth.pulling.registry_oci import MANIFEST_TYPE, OciReference, OciRegistry
from berth.pulling.transfer import CHUNK_BYTES, Persistence

if TYPE_CHECKING:
    import httpx

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
# https://github.com/modelpack/model-spec/blob/main/docs/spec.md
_PACK = "application/vnd.cncf.model"
_UPLOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Blob:
    """Bytes to push: a small text, or a file."""

    media_type: str
    sha256: str
    size: int
    content: bytes | Path
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> dict[str, Any]:
        """How a manifest names it."""
        named = {"annotations": dict(self.annotations)} if self.annotations else {}
        return {"mediaType": self.media_type, "digest": f"sha256:{self.sha256}", "size": self.size, **named}

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _text_blob(media_type: str, document: Mapping[str, Any]) -> _Blob:
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return _Blob(media_type, hashlib.sha256(text).hexdigest(), len(text), text)


def _member(name: str, size: int = -1) -> tarfile.TarInfo:
    """A header that depends on name and size alone; without a size that of a folder."""
    info = tarfile.TarInfo(name)
    info.mode = 0o755 if size < 0 else 0o644
    info.type, info.size = (tarfile.DIRTYPE, 0) if size < 0 else (tarfile.REGTYPE, size)
    return info


def write_layer(entry: Entry, names: list[str], to: Path) -> None:
    """NAME/VERSION/… as a tar whose bytes depend on nothing but the files."""
    base = f"{entry.name}/{entry.version}"
    folders = {str(parent) for name in names for parent in Path(base, name).parents if str(parent) != "."}
    with tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(folders):
            archive.addfile(_member(name))
        for name in sorted(names):
            path = entry.folder / name
            with path.open("rb") as file:
                archive.addfile(_member(f"{base}/{name}", path.stat().st_size), file)


def _layer_blob(entry: Entry, names: list[str], layer: Path, media_type: str, annotations: Mapping[str, str]) -> _Blob:
    write_layer(entry, names, layer)
    found = digest_file(layer)
    return _Blob(media_type, found.sha256, found.bytes, layer, annotations)


def _own_files(entry: Entry) -> list[str]:
    return [MANIFEST, *([SIGNATURE] if (entry.folder / SIGNATURE).is_file() else [])]


def _make_image(entry: Entry, folder: Path) -> tuple[list[_Blob], dict[str, Any]]:
    """The blobs of an image with one layer, the configuration last, and its manifest."""
    names = [*verify_version(entry).files, *_own_files(entry)]
    layer = _layer_blob(entry, names, folder / "layer.tar", _LAYER_TYPE, {})
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}"]}
    config = _text_blob(_CONFIG_TYPE, {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs})
    return [layer, config], {}


def _make_pack(entry: Entry, folder: Path) -> tuple[list[_Blob], dict[str, Any]]:
    """Those of a ModelPack artifact: a layer for each file of the model, one for what Berth says of it."""
    manifest = verify_version(entry)
    layers = [
        _layer_blob(
            entry,
            [name],
            folder / f"{at}.tar",
            f"{_PACK}.weight.v1.tar",
            {"org.cncf.model.filepath": f"{entry.name}/{entry.version}/{name}"},
        )
        for at, name in enumerate(sorted(manifest.files))
    ]
    layers.append(_layer_blob(entry, _own_files(entry), folder / "own.tar", f"{_PACK}.weight.config.v1.tar", {}))
    config = {
        "descriptor": {"name": entry.name, "version": entry.version, "createdAt": manifest.created},
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{layer.sha256}" for layer in layers]},
        "config": {"format": manifest.format},
    }
    return [*layers, _text_blob(f"{_PACK}.config.v1+json", config)], {"artifactType": f"{_PACK}.manifest.v1+json"}


class _Push:
    """One push: a client, a repository, and what authorizes it."""

    def __init__(self, client: httpx.Client, registry: OciRegistry) -> None:
        self._client, self._registry = client, registry
        self._url = registry.url
        authorization = registry.authorize("pull,push")
        self._headers = {"Authorization": authorization} if authorization else {}

    def _send(self, method: str, url: str, expected: tuple[int, ...], **more: Any) -> httpx.Response:
        import httpx

        # An upload may be sent to another host, which gets no credentials.
        own = self._headers if urlsplit(url).netloc == urlsplit(self._url).netloc else {}
        try:
            response = self._client.request(method, url, headers={**own, **more.pop("headers", {})}, **more)
        except httpx.HTTPError as error:
            raise StoreError(f"{show_url(url)} cannot be reached: {error or type(error).__name__}") from error
        if response.status_code not in expected:
            said = " ".join(response.text.split())[:300]
            raise StoreError(f"{show_url(url)} returned {response.status_code} to {method}: {said or 'no reason'}")
        return response

    def blob(self, blob: _Blob) -> None:
        """Upload it, unless the registry has it."""
        digest = f"sha256:{blob.sha256}"
        if self._send("HEAD", f"{self._url}/blobs/{digest}", (200, 404)).status_code == 200:
            return
        begun = self._send("POST", f"{self._url}/blobs/uploads/", (202,))
        location = urljoin(f"{self._url}/", begun.headers.get("Location", ""))
        place = f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        self._send("PUT", place, (201,), headers=headers, content=blob.chunks())

    def manifest(self, blob: _Blob, name: str) -> None:
        """Upload a manifest under a tag or its digest."""
        self._send(
            "PUT",
            f"{self._url}/manifests/{name}",
            (201,),
            headers={"Content-Type": MANIFEST_TYPE},
            content=blob.content,
        )


def push_version(
    entry: Entry, reference: OciReference, environ: Mapping[str, str], *, as_model_pack: bool = False
) -> str:
    """Push a version whose files have their digests, as an image or a ModelPack artifact; the digest of its manifest.

    Raises StoreError, IntegrityError.
    """
    with tempfile.TemporaryDirectory(prefix="berth-push-") as folder, open_client(WebRules()) as client:
        blobs, kind = (_make_pack if as_model_pack else _make_image)(entry, Path(folder))
        client.timeout = _UPLOAD_SECONDS
        image = _text_blob(
            MANIFEST_TYPE,
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                **kind,
                "config": blobs[-1].descriptor,
                "layers": [blob.descriptor for blob in blobs[:-1]],
                "annotations": {"org.opencontainers.image.title": entry.key},
            },
        )
        run = _Push(client, OciRegistry(reference, environ, Persistence()))
        for blob in blobs:
            run.blob(blob)
        digest = f"sha256:{image.sha256}"
        run.manifest(image, reference.tag or digest)
    return digest
