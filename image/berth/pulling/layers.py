"""The layers of an image or artifact: fetched, checked by their digests, unpacked into one folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from berth.errors import StoreError, UnsafeArtifact
from berth.models.manifest import MANIFEST
from berth.pulling.archive import unpack
from berth.pulling.origin import Fetched, check_file_names
from berth.pulling.registry_oci import OciLayer, OciRegistry, parse_reference
from berth.pulling.transfer import MORE_ROOM, Moved, Persistence, fetch_file, find_room

# The ends of media types, and how such a layer is unpacked.
_ENDINGS = {"tar": ".tar", "tar+gzip": ".tar.gz", "tar.gzip": ".tar.gz", "tar.gz": ".tar.gz"}
# What ModelPack (https://github.com/modelpack/model-spec) calls the name of a layer that is one file.
_FILE_PATH = "org.cncf.model.filepath"
_SPOOLED_PARTS = 2


def _ending(layer: OciLayer) -> str:
    """How a layer is packed: an archive's suffix, or nothing for a file as it is. Raises StoreError."""
    kind = layer.media_type.rpartition(".v1.")[2] or layer.media_type
    for ending, suffix in _ENDINGS.items():
        if kind == ending or layer.media_type.endswith(f".{ending}"):
            return suffix
    if kind == "raw":
        return ""
    raise StoreError(f"a layer of the type {layer.media_type[:200]!r} cannot be unpacked: want tar, tar+gzip or raw")


def _lay(layer: OciLayer, blob: Path, into: Path, room: int) -> None:
    """A layer's files over those of the layers below it. Raises StoreError, UnsafeArtifact."""
    if not (suffix := _ending(layer)):
        name = layer.annotations.get(_FILE_PATH, "")
        check_file_names([name], "the manifest")
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blob, into / name)
        return
    fresh = into.with_name(f"{into.name}-{layer.digest.sha256[:12]}")
    fresh.mkdir()
    try:
        unpack(blob, fresh, suffix, room)
        for path in sorted(fresh.rglob("*")):
            to = into / path.relative_to(fresh)
            if path.name.startswith(".wh."):
                raise UnsafeArtifact(f"the layer deletes {path.name[4:][:200]!r} of a layer below; push the files anew")
            if path.is_file():
                to.parent.mkdir(parents=True, exist_ok=True)
                path.replace(to)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def fetch_layers(
    registry: OciRegistry,
    into: Path,
    work: Path,
    persistence: Persistence,
    max_bytes: int = 0,
    moved: Moved = lambda n: None,
) -> str:
    """Every file of the reference below `into`; blobs pass through `work`. The manifest's digest."""
    manifest = registry.read_manifest()
    needed, room = sum(layer.digest.bytes for layer in manifest.layers), find_room(work, max_bytes)
    if needed * _SPOOLED_PARTS > room:
        raise StoreError(f"{registry.reference} has {needed} bytes, to be unpacked, but {room} are free: {MORE_ROOM}")
    for layer in manifest.layers:
        _ending(layer)
    for layer in manifest.layers:
        blob = work / layer.digest.sha256
        fetch_file(registry, f"sha256:{layer.digest.sha256}", blob, layer.digest, persistence, moved, "the manifest")
        _lay(layer, blob, into, find_room(work, max_bytes))
        blob.unlink()
    return manifest.digest


def _pick(folder: Path, path: str) -> Path:
    """The model in an unpacked image: what `path` names, else the folder that holds more than one folder."""
    if path:
        check_file_names([path], "the URI")
        found = folder / PurePosixPath(path)
        if not found.exists():
            names = ", ".join(sorted(each.name for each in folder.iterdir())[:20])
            raise StoreError(f"there is no {path!r} in the image; its root holds {names or 'nothing'}")
        return found
    while len(below := list(folder.iterdir())) == 1 and below[0].is_dir():
        folder = below[0]
    if (folder / MANIFEST).is_file():
        raise StoreError("the image holds a version of a store: fetch it with `berth pull`, or name a file with #PATH")
    return folder


def fetch_image(uri: str, environ: Mapping[str, str], into: Path, persistence: Persistence) -> Fetched:
    """The model in an image or ModelPack artifact, below `into`. Raises StoreError, IntegrityError, UnsafeArtifact."""
    reference = parse_reference(uri)
    registry, root = OciRegistry(reference, environ, persistence), into / "image"
    root.mkdir()
    digest = fetch_layers(registry, root, into, persistence)
    shown = f"{reference}#{reference.path}" if reference.path else str(reference)
    return Fetched(_pick(root, reference.path), {"uri": shown, "digest": digest})
