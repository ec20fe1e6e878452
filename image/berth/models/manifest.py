"""model.json: what a version is, what it accepts and returns, and the digests of its files.

Its format is `data/manifest.schema.json` (JSON Schema 2020-12); unknown keys outside `metadata` are errors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from berth.errors import IntegrityError, ManifestError
from berth.models.quick_schema import fits
from berth.tensors.arrays import TensorSpec
from berth.tensors.codec import find_duplicate

MANIFEST = "model.json"
# Beside the files, never among them: see models/signing.py.
SIGNATURE = "model.sig"
SCHEMA_VERSION = 1
_MOST_SHOWN = 200  # characters of what stands where it should not: it may be all of the file
# A list of plain numbers, or of plain words: one line is easier to read than one line each.
_SCALARS = re.compile(
    r'\[\n\s+((?:-?[\d.eE+-]+|"[^"\\\n]*"|null|true|false)(?:,\n\s+(?:-?[\d.eE+-]+|"[^"\\\n]*"|null|true|false))*)\n\s+\]'
)


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What one file of a version must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """One version of one model, as model.json describes it.

    `architecture` belongs to safetensors alone: {"factory": "package.module:name", "arguments": {…}}. `steps` are the
    parts of a file of several, in the order of the pipeline that they make. A model that is not `batchable` predicts
    its tensors as a whole: their first dimensions are not rows.
    """

    name: str
    version: str
    format: str
    created: str
    files: Mapping[str, FileDigest]
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    built_with: Mapping[str, str] = field(default_factory=dict)
    accelerated: Mapping[str, Any] | None = None
    example: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    architecture: Mapping[str, Any] | None = None
    steps: tuple[str, ...] = ()
    batchable: bool = True

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The files that the format's loader reads, the accelerated model not among them."""
        accelerated = (self.accelerated or {}).get("file")
        return tuple(name for name in sorted(self.files) if name != accelerated)

    @property
    def sha256(self) -> str:
        """The artifact's digest; of several files, the digest of what `sha256sum` prints for them, sorted."""
        names = self.artifacts
        if len(names) == 1:
            return self.files[names[0]].sha256
        lines = "".join(f"{self.files[name].sha256}  {name}\n" for name in names)
        return hashlib.sha256(lines.encode()).hexdigest()


@cache
def manifest_schema() -> dict[str, Any]:
    """The JSON Schema that every model.json obeys."""
    text = (resources.files("berth") / "data" / "manifest.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(manifest_schema())


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := find_duplicate(key for key, _ in pairs)) is not None:
        raise ManifestError(f"{MANIFEST}: the key {twice[:_MOST_SHOWN]!r} is duplicated; keep one")
    return dict(pairs)


def _refuse_constant(word: str) -> None:
    raise ManifestError(f"{MANIFEST}: {word} is not JSON; write null")


def _check_form(document: Any) -> None:
    if fits(document, manifest_schema(), manifest_schema()):
        return
    found = min(_validator().iter_errors(document), key=lambda error: list(error.path), default=None)
    if found is not None:
        where = "/".join(str(step) for step in found.path) or "the top"
        raise ManifestError(f"{MANIFEST}: at {where[:_MOST_SHOWN]}: {found.message[:_MOST_SHOWN]}")


def _parse_spec(spec: Mapping[str, Any]) -> TensorSpec:
    def listed(key: str) -> tuple[Any, ...] | None:
        return tuple(spec[key]) if key in spec else None

    shape, optional = tuple(spec["shape"]), spec.get("optional", False)
    return TensorSpec(spec["name"], spec["datatype"], shape, listed("columns"), listed("labels"), optional)


def _check_scalars(document: Mapping[str, Any]) -> None:
    """That no tensor of a model whose first dimensions are rows is without any."""
    for kind in ("inputs", "outputs") if document.get("batchable", True) else ():
        for at, spec in enumerate(document[kind]):
            if not spec["shape"]:
                raise ManifestError(f"{MANIFEST}: at {kind}/{at}/shape: [] has no rows, but the model is batchable")


def parse_manifest(text: bytes) -> Manifest:
    """The manifest in `text`. Raises ManifestError, which names the place and the fault."""
    try:
        document = json.loads(text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST}: not JSON: {error}") from error
    _check_form(document)
    _check_scalars(document)
    made = {
        "files": {name: FileDigest(**digest) for name, digest in document["files"].items()},
        "inputs": tuple(_parse_spec(spec) for spec in document["inputs"]),
        "outputs": tuple(_parse_spec(spec) for spec in document["outputs"]),
        "steps": tuple(document.get("steps", ())),
    }
    # The other keys, which the schema knows, are the manifest's fields.
    return Manifest(**{key: value for key, value in document.items() if key != "schema"} | made)


def encode_spec(spec: TensorSpec) -> dict[str, Any]:
    """A spec as it stands in model.json; columns and labels only where there are some."""
    document: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    for key in ("columns", "labels"):
        if (values := getattr(spec, key)) is not None:
            document[key] = list(values)
    if spec.optional:
        document["optional"] = True
    return document


def _on_one_line(found: re.Match[str]) -> str:
    return "[" + re.sub(r",\n\s+", ", ", found[1]) + "]"


def encode_manifest(manifest: Manifest) -> bytes:
    """model.json for `manifest`, indented for people. Raises ManifestError when it would not be read back."""
    document: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        **{key: getattr(manifest, key) for key in ("name", "version", "format", "created")},
        "files": {name: asdict(digest) for name, digest in sorted(manifest.files.items())},
        "inputs": [encode_spec(spec) for spec in manifest.inputs],
        "outputs": [encode_spec(spec) for spec in manifest.outputs],
        "built_with": dict(manifest.built_with),
    }
    for key in ("architecture", "accelerated", "example"):
        if (value := getattr(manifest, key)) is not None:
            document[key] = dict(value)
    if manifest.steps:
        document["steps"] = list(manifest.steps)
    if not manifest.batchable:
        document["batchable"] = False
    document["metadata"] = dict(manifest.metadata)
    _check_form(document)
    try:
        text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
        return (_SCALARS.sub(_on_one_line, text) + "\n").encode()
    except (ValueError, TypeError) as error:
        raise ManifestError(f"{MANIFEST}: a value cannot be written as JSON: {error}") from error


def digest_file(path: Path) -> FileDigest:
    """The sha256 and size of one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileDigest(digest.hexdigest(), file.tell())


def check_digest(path: Path, name: str, wanted: FileDigest, by: str = MANIFEST) -> None:
    """That a file is what `by` says. Raises IntegrityError with both digests."""
    if (found := digest_file(path)) != wanted:
        raise IntegrityError(
            f"{name} has sha256 {found.sha256} ({found.bytes} bytes), "
            f"but {by} says {wanted.sha256} ({wanted.bytes} bytes)"
        )


def walk_files(directory: Path) -> Iterator[str]:
    """Relative names of the plain files below `directory`. Raises IntegrityError for a link or a device."""
    for parent, folders, files in os.walk(directory, followlinks=False):
        for name in [*folders, *files]:
            path = Path(parent, name)
            relative = path.relative_to(directory).as_posix()
            if path.is_symlink():
                raise IntegrityError(f"{relative} is a symbolic link; a version holds plain files only")
            if name in files and not path.is_file():
                raise IntegrityError(f"{relative} is not a plain file; a version holds plain files only")
            if name in files:
                yield relative


def _check_names(present: Iterable[str], wanted: Iterable[str]) -> None:
    wanted = set(wanted)
    present = set(present) - ({MANIFEST, SIGNATURE} - wanted)
    if missing := sorted(wanted - present):
        raise IntegrityError(f"{missing[0]} is in {MANIFEST} but not in the folder")
    if extra := sorted(present - wanted):
        raise IntegrityError(f"{extra[0]} is in the folder but not in {MANIFEST}")


def check_files(directory: Path, manifest: Manifest) -> None:
    """That the folder holds exactly the manifest's files, byte for byte.

    Raises IntegrityError: the line names the file and both digests.
    """
    _check_names(walk_files(directory), manifest.files)
    for name, wanted in manifest.files.items():
        check_digest(directory / name, name, wanted)
