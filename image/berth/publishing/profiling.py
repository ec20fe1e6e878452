"""The profile of a new version: its sample's columns, and what the model predicts for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from berth.models.manifest import Manifest
from berth.models.model import Loaded
from berth.models.profile import PREDICTION, PROFILE, encode_profile, make_profile
from berth.tensors.arrays import Array

# Of the sample, for the predictions: shares are known well enough from so many, and a model may be slow.
_PREDICTED_ROWS = 20_000


def _predict(loaded: Loaded, manifest: Manifest, tensors: Mapping[str, Array]) -> Array | None:
    if all(spec.name != PREDICTION for spec in manifest.outputs):
        return None
    rows = next(iter(tensors.values())).shape[0]
    step = -(-rows // _PREDICTED_ROWS)  # spread over the whole sample, which may be sorted
    return loaded.predict({name: array[::step] for name, array in tensors.items()}, [PREDICTION])[PREDICTION]


def with_profile(loaded: Loaded, manifest: Manifest, tensors: Mapping[str, Array]) -> Manifest:
    """The manifest with the profile of the sample's rows (`tensors`) under `metadata.profile`.

    There is none for inputs that have no columns, and a user's own key of that name stays.
    """
    if PROFILE in manifest.metadata:
        return manifest
    classes = any(spec.labels for spec in manifest.outputs)
    profile = make_profile(manifest.inputs, tensors, _predict(loaded, manifest, tensors), classes)
    if not profile.columns:
        return manifest
    return replace(manifest, metadata={**manifest.metadata, PROFILE: encode_profile(profile)})
