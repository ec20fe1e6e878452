"""What the quick check accepts, jsonschema accepts as well; a sound model.json never needs jsonschema."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.models.manifest import manifest_schema
from berth.models.quick_schema import fits

DOCUMENT: Any = {
    "schema": 1,
    "name": "iris",
    "version": "1.2.3-rc1",
    "format": "joblib",
    "created": "2026-01-02T03:04:05.678Z",
    "files": {"model.joblib": {"sha256": "0" * 64, "bytes": 3}, "data/more.bin": {"sha256": "f" * 64, "bytes": 0}},
    "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, 2], "columns": ["a", "b [cm]"]}],
    "outputs": [{"name": "prediction", "datatype": "BYTES", "shape": [-1], "labels": ["x", 1], "optional": True}],
    "built_with": {"python": "3.11.7"},
    "accelerated": {"file": "data/more.bin", "rows_compared": 10_000, "max_abs_error": 1e-9},
    "example": {"inputs": {"features": [[1.5, None]]}, "outputs": {"prediction": ["x"]}, "tolerance": 1e-6},
    "metadata": {"owner": "Zoë", "list": [1, [2, "three"]]},
    "steps": ["a"],
    "batchable": False,
    "architecture": {"factory": "m:f", "arguments": {}},
}
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, -2, 1.0, 0.5, "", "x", "FP64", "joblib", "model.json", "..", "a\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "shape", "x", ".."]), inner),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document, its own aside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inner for found in ((*path, key), *places(item, (*path, key)))]


def is_valid(document: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(manifest_schema()).is_valid(document))


def test_a_sound_manifest_fits() -> None:
    assert is_valid(DOCUMENT)
    assert fits(DOCUMENT, manifest_schema(), manifest_schema())


@given(st.sampled_from(places(DOCUMENT)), VALUES, st.sampled_from(["replace", "add", "remove"]))
def test_what_fits_is_valid(path: tuple[Any, ...], value: Any, how: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    if how == "remove":
        del parent[path[-1]]
    elif how == "replace" or isinstance(parent, list):
        parent[path[-1]] = value
    else:
        parent["more"] = value
    if fits(document, manifest_schema(), manifest_schema()):
        assert is_valid(document)


@pytest.mark.parametrize(
    "schema",
    [
        {"maximum": 1},
        {"not": {"type": "string"}},
        {"anyOf": [{}]},
        {"$ref": "#/$defs/x", "minimum": 1},
        {"type": "null"},
    ],
)
def test_a_keyword_that_it_does_not_know_is_left_to_jsonschema(schema: dict[str, Any]) -> None:
    assert not fits(0, schema, {"$defs": {"x": {}}})


def test_reading_a_sound_manifest_imports_no_jsonschema(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(DOCUMENT), "utf-8")
    program = (
        "import sys; from pathlib import Path; from berth.models.manifest import parse_manifest; "
        f"parse_manifest(Path({str(tmp_path / 'model.json')!r}).read_bytes()); sys.exit('jsonschema' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
