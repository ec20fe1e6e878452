"""`berth add --ensemble`: a version made of others of the same store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from berth.errors import LoadError
from berth.loaders.combining import MEAN, WEIGHTED
from berth.loaders.ensemble import ENSEMBLE, FILE, Recipe, check_recipe, encode_recipe
from berth.loaders.formats import LoadOptions
from berth.models.store import Entry, find_by_key, find_version, verify_version
from berth.publishing.adding import AddRequest, add_version


def make_recipe(store: Path, members: Sequence[str], combine: str, weights: Sequence[float]) -> Recipe:
    """The members by name and version, each with its digest. Raises StoreError, LoadError."""
    found = []
    for word in members:
        entry = find_by_key(store, word)
        found.append((entry.name, entry.version, verify_version(entry).sha256))
    if bool(weights) != (combine == WEIGHTED):
        raise LoadError(f"weights go with --combine {WEIGHTED}, and it with them; got --combine {combine}")
    recipe = Recipe(combine or MEAN, tuple(found), tuple(weights) or (1.0,) * len(found))
    check_recipe(recipe)
    return recipe


def _is_deterministic(store: Path, recipe: Recipe) -> bool:
    entries = [find_version(store, name, version) for name, version, _ in recipe.members]
    return all(verify_version(entry).metadata.get("deterministic") is True for entry in entries)


def add_ensemble(
    store: Path,
    recipe: Recipe,
    request: AddRequest,
    options: LoadOptions,
    tell: Callable[[str], None] = lambda line: None,
    meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Entry:
    """Put an ensemble into the store. Raises what `add_version` raises."""
    metadata = {**request.metadata, "members": [f"{name}@{version}" for name, version, _ in recipe.members]}
    if _is_deterministic(store, recipe):
        metadata.setdefault("deterministic", True)
    with tempfile.TemporaryDirectory(prefix="berth-ensemble-") as folder:
        file = Path(folder, FILE)
        file.write_bytes(encode_recipe(recipe))
        full = replace(request, format=ENSEMBLE, metadata=metadata)
        return add_version(store, file, full, options, tell, meanwhile)
