"""An optimised version in the store: made, loaded, compared with the one it comes from, and only then written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from berth.errors import LoadError
from berth.loaders.formats import LoadOptions
from berth.models.manifest import MANIFEST, Manifest, digest_file, encode_manifest, walk_files
from berth.models.model import Loaded, Model
from berth.models.store import Entry, next_version, verify_version, write_version
from berth.publishing.adding import make_example
from berth.publishing.optimize.comparing import BATCH_ROWS, Pair, SizeReport, compare, encode_report, measure_latency
from berth.publishing.optimize.making import Artifact, Method, check_method, make_artifact
from berth.publishing.samples import decode_sample, read_sample
from berth.serving.opening import load_verified, open_version
from berth.telemetry.logs import timestamp
from berth.tensors.arrays import Array

_EXAMPLE_ROWS = 3


@dataclass(frozen=True, slots=True)
class OptimizeRequest:
    """What to make over, how, and how far its outputs may move; no version means the next natural number."""

    entry: Entry
    method: Method
    sample: Path
    version: str = ""
    max_difference: float | None = None


def _read_rows(model: Model, path: Path) -> dict[str, Array]:
    if fixed := [spec for spec in model.inputs if spec.shape[0] != -1]:
        raise LoadError(f"the input {fixed[0].name!r} expects {fixed[0].shape[0]} rows, no more and no fewer")
    return decode_sample(read_sample(path, model.inputs), model.inputs)


def _size(folder: Path, names: tuple[str, ...]) -> int:
    return sum((folder / name).stat().st_size for name in names)


def _report(model: Model, loaded: Loaded, rows: dict[str, Array], sizes: Pair) -> SizeReport:
    outputs = model.outputs
    difference = compare(model.predict, loaded.predict, rows, outputs)
    one, batch = (measure_latency(model.predict, loaded.predict, rows, outputs, count) for count in (1, BATCH_ROWS))
    return SizeReport(sizes, one, batch, difference)


def _check_difference(report: SizeReport, request: OptimizeRequest) -> None:
    if request.max_difference is not None and report.difference.worst > request.max_difference:
        raise LoadError(
            f"{request.method} moves the outputs of {request.entry.key} by up to {report.difference.worst:.3g}, "
            f"more than --max-difference {request.max_difference:g}; nothing was written"
        )


def _example(loaded: Loaded, rows: dict[str, Array], manifest: Manifest, report: SizeReport, method: Method) -> Any:
    """The new outputs. Another CPU rounds int8 in another way, and may miss by as much as int8 itself does."""
    example = make_example(loaded, rows, manifest.outputs)
    if method.name == "int8":
        example["tolerance"] = max(example["tolerance"], 2 * (report.difference.max_abs or 0.0))
    return example


def _draft(manifest: Manifest, version: str, format_: str, part: Path, model: Model) -> Manifest:
    """The manifest of the new files; what it accepts and returns is unchanged, and it has no accelerated model."""
    return replace(
        manifest,
        version=version,
        format=format_,
        created=timestamp(),
        files={name: digest_file(part / name) for name in walk_files(part)},
        inputs=model.inputs,
        outputs=model.outputs,
        accelerated=None,
        architecture=manifest.architecture if format_ == "safetensors" else None,
    )


def optimize_version(
    store: Path, request: OptimizeRequest, options: LoadOptions, version_policy: str
) -> tuple[Entry, SizeReport]:
    """Write the optimised copy of a version as a new one, with what it is worth; all of it or nothing.

    Raises StoreError, IntegrityError, UnsafeArtifact, LoadError.
    """
    entry, method = request.entry, request.method
    manifest = verify_version(entry)
    check_method(entry.key, manifest.format, method)
    model = open_version(entry, options, version_policy)
    rows = _read_rows(model, request.sample)
    version = request.version or next_version(store, entry.name)
    reports: list[SizeReport] = []

    def fill(part: Path) -> None:
        first = {name: array[:_EXAMPLE_ROWS] for name, array in rows.items()}
        format_ = make_artifact(Artifact(entry.folder, manifest, part, first, options), method)
        made = _draft(manifest, version, format_, part, model)
        loaded = load_verified(Entry(entry.name, version, part), made, options)
        sizes = Pair(_size(entry.folder, manifest.artifacts), _size(part, made.artifacts))
        report = _report(model, loaded, rows, sizes)
        _check_difference(report, request)
        origin = {"from": entry.version, "method": str(method), **encode_report(report)}
        made = replace(
            made,
            built_with=dict(loaded.built_with),
            metadata={**manifest.metadata, "optimized": origin},
            example=_example(loaded, rows, made, report, method),
        )
        (part / MANIFEST).write_bytes(encode_manifest(made))
        reports.append(report)

    return write_version(store, entry.name, version, fill), reports[0]
