"""Stores on this machine: a directory, one version's folder, or what came out of an archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from berth.errors import StoreError
from berth.models.manifest import MANIFEST, parse_manifest
from berth.models.store import MANIFEST_BYTES, list_names, list_versions
from berth.pulling.transfer import CHUNK_BYTES, ModelSource, Stream

_DEEPEST = 4  # WRAPPER/NAME/VERSION/model.json
_MANIFESTS_BYTES = 64 << 20  # of all of them: each is read to find what is there


class FolderSource(ModelSource):
    """A store directory. `folders` says where versions are that do not lie as in a store."""

    def __init__(
        self, root: Path, shown: str, folders: Mapping[tuple[str, str], Path] | None = None, *, movable: bool = False
    ) -> None:
        self.shown = shown
        self._root = root
        self._folders = folders
        self._movable = movable

    def list_names(self) -> list[str]:
        """The models that are there."""
        return list_names(self._root) if self._folders is None else sorted({name for name, _ in self._folders})

    def list_versions(self, name: str) -> list[str]:
        """A model's versions."""
        if self._folders is None:
            return [entry.version for entry in list_versions(self._root, name)]
        return [version for known, version in self._folders if known == name]

    def _path(self, path: str) -> Path:
        name, version, file = path.split("/", 2)
        if self._folders is None:
            folder = self._root / name / version
        elif (known := self._folders.get((name, version))) is not None:
            folder = known
        else:
            raise StoreError(f"{name}@{version} is not in {self.shown}")
        found = folder / file
        if any(step.is_symlink() for step in (found, *found.parents) if step.is_relative_to(folder)):
            raise StoreError(f"{path} of {self.shown} goes through a symbolic link; a version holds plain files only")
        if not found.is_file():
            raise StoreError(f"{path} is not in {self.shown}")
        return found

    @contextmanager
    def open(self, path: str, offset: int = 0, tag: str = "") -> Iterator[Stream]:
        """A file's bytes from `offset`."""
        found = self._path(path)
        try:
            with found.open("rb") as file:
                file.seek(offset)
                chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
                yield Stream(offset, found.stat().st_size, "", chunks)
        except OSError as error:
            raise StoreError(f"{path} of {self.shown} cannot be read: {error.strerror}") from error

    def movable(self, path: str) -> Path | None:
        """The file itself, where it came out of an archive."""
        return self._path(path) if self._movable else None


def find_versions(root: Path) -> dict[tuple[str, str], Path]:
    """Every version below `root` by what its manifest says, whatever the folders are called. Raises StoreError."""
    found: dict[tuple[str, str], Path] = {}
    left = _MANIFESTS_BYTES
    for path in sorted(root.rglob(MANIFEST), key=lambda path: len(path.parts)):
        folder = path.parent
        inside = any(known in path.parents for known in found.values())
        if inside or len(path.relative_to(root).parts) > _DEEPEST or not path.is_file():
            continue  # a file of a version may be called model.json as well, and so may a folder
        left -= (size := path.stat().st_size)
        if size > MANIFEST_BYTES or left < 0:
            raise StoreError(f"{path.relative_to(root)} has {size} bytes; that is more than a {MANIFEST} may have")
        manifest = parse_manifest(path.read_bytes())
        key = (manifest.name, manifest.version)
        if key in found:
            raise StoreError(f"{manifest.name}@{manifest.version} is in the archive twice")
        found[key] = folder
    return found


def open_folder(folder: Path, shown: str) -> FolderSource:
    """A store's directory, or the folder of one version. Raises StoreError."""
    if not folder.is_dir():
        raise StoreError(f"{shown} is not a directory")
    return FolderSource(folder, shown, find_versions(folder) if (folder / MANIFEST).is_file() else None)
