"""The accelerated model of a new version: made, proven, and noted in its manifest with its digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from berth.accelerate.make import make_accelerated
from berth.accelerate.nets import make_accelerated_net
from berth.accelerate.refusal import Refusal
from berth.loaders.formats import LoadOptions
from berth.models.manifest import Manifest, digest_file
from berth.models.model import Loaded
from berth.tensors.arrays import Array
from berth.tensors.schema import required

ACCELERATED = "accelerated.onnx"


def accelerate_version(
    loaded: Loaded,
    manifest: Manifest,
    sample: Mapping[str, Array] | None,
    folder: Path,
    options: LoadOptions,
    tell: Callable[[str], None],
) -> Manifest:
    """The manifest with the accelerated model, or with the reason why there is none."""
    if loaded.estimator is None and loaded.module is None:
        return manifest
    if (folder / ACCELERATED).exists():
        return replace(manifest, accelerated={"reason": f"its own files hold one called {ACCELERATED}"})
    if options.accelerate == "off":
        return replace(manifest, accelerated={"reason": "BERTH_ACCELERATE was off when it was added"})
    path = folder / ACCELERATED
    make = make_accelerated if loaded.module is None else make_accelerated_net
    result = make(loaded, manifest.inputs, required(manifest.outputs), sample, path, options.cpu_threads)
    tell(f"not accelerated: {result}" if isinstance(result, Refusal) else f"accelerated: {result}")
    if isinstance(result, Refusal):
        return replace(manifest, accelerated={"reason": str(result)})
    return replace(
        manifest,
        files={**manifest.files, ACCELERATED: digest_file(path)},
        accelerated={
            "file": ACCELERATED,
            "rows_compared": result.proof.rows,
            "max_abs_error": result.proof.max_abs_error,
        },
    )
