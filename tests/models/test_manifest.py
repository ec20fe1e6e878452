"""model.json there and back, what it may not say, and the folder that must be exactly what it says."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import IntegrityError, ManifestError
from berth.models.manifest import (
    MANIFEST,
    FileDigest,
    Manifest,
    check_files,
    digest_file,
    encode_manifest,
    parse_manifest,
    walk_files,
)
from berth.tensors.arrays import TensorSpec

DIGEST = FileDigest("0" * 64, 3)
FULL = Manifest(
    name="iris",
    version="1.2.3-rc1",
    format="joblib",
    created="2026-01-02T03:04:05.678Z",
    files={"model.joblib": DIGEST, "data/more.bin": FileDigest("f" * 64, 0)},
    inputs=(TensorSpec("features", "FP64", (-1, 2), ("a", "b [cm]")),),
    outputs=(TensorSpec("prediction", "BYTES", (-1,)), TensorSpec("probabilities", "FP64", (-1, 2), None, ("x", 1))),
    built_with={"python": "3.11.7"},
    accelerated={"file": "data/more.bin", "rows_compared": 10_000, "max_abs_error": 1e-9},
    example={"inputs": {"features": [[1.5, None]]}, "outputs": {"prediction": ["x"]}, "tolerance": 1e-6},
    metadata={"owner": "Zoë", "list": [1, [2, "three, [four]"]], "deterministic": True},
)


def document(**changes: Any) -> bytes:
    """FULL's document with some keys changed."""
    return json.dumps(json.loads(encode_manifest(FULL)) | changes).encode()


def test_there_and_back() -> None:
    assert parse_manifest(encode_manifest(FULL)) == FULL


def test_it_is_easy_to_read() -> None:
    text = encode_manifest(FULL).decode()
    assert '"shape": [-1, 2]' in text
    assert '"owner": "Zoë"' in text
    assert text.endswith("}\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_any_metadata_comes_back(metadata: dict[str, Any]) -> None:
    manifest = Manifest("m", "1", "onnx", "2026-01-02T03:04:05Z", {"m.onnx": DIGEST}, metadata=metadata)
    try:
        text = encode_manifest(manifest)
    except ManifestError as error:
        assert "cannot be written as JSON" in error.message  # noqa: PT017 - a lone surrogate, which is no UTF-8
        return
    assert parse_manifest(text) == manifest


def test_the_artifacts_and_their_digest() -> None:
    assert FULL.artifacts == ("model.joblib",)
    assert FULL.sha256 == "0" * 64
    several = Manifest("m", "1", "python", "", {"b": DIGEST, "a": FileDigest("f" * 64, 1)})
    lines = f"{'f' * 64}  a\n{'0' * 64}  b\n"
    assert several.sha256 == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"a": 1, "a": 2}', "the key 'a' is duplicated"),
        (b'{"metadata": {"a": {"b": 1, "b": 2}}}', "the key 'b' is duplicated"),
        (b'{"metadata": {"auc": NaN}}', "NaN is not JSON"),
        (b"[]", "is not of type 'object'"),
        (document(schema=2), "at schema: 1 was expected"),
        (document(extra=1), "'extra' was unexpected"),
        (document(name="../up"), "at name"),
        (document(name="iris\n"), "at name"),
        (document(version=1), "at version"),
        (document(format="exe"), "at format"),
        (document(created="yesterday"), "at created"),
        (document(files={}), "at files"),
        (document(files={"model.joblib": {"sha256": "0" * 63, "bytes": 1}}), "at files/model.joblib/sha256"),
        (document(files={"model.joblib": {"sha256": "F" * 64, "bytes": 1}}), "at files/model.joblib/sha256"),
        (document(files={"model.joblib": {"sha256": "0" * 64, "bytes": -1}}), "at files/model.joblib/bytes"),
        (document(inputs=[{"name": "x", "datatype": "FP8", "shape": [-1]}]), "at inputs/0/datatype"),
        (document(inputs=[{"name": "x", "datatype": "FP32", "shape": [-2]}]), "at inputs/0/shape/0"),
        (document(inputs=[{"name": "x", "datatype": "FP32", "shape": []}]), "at inputs/0/shape"),
        (document(inputs=[{"name": "x", "datatype": "FP32", "shape": [1], "color": "red"}]), "at inputs/0"),
        (document(accelerated={"speed": 1}), "at accelerated"),
        (document(example={"inputs": {}}), "at example"),
        (document(metadata=[]), "at metadata"),
    ],
)
def test_the_place_and_the_fault_are_told(text: bytes, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        parse_manifest(text)
    assert caught.value.message.startswith("model.json: ")


@pytest.mark.parametrize(
    "name",
    ["../model.joblib", "/etc/passwd", "a/../../b", "a/..", "..", ".", "./a", "a//b", "a/", "", "a\\b", "a\x00b", "a\n",
     "model.json", "a" * 513],
)  # fmt: skip
def test_a_file_name_that_leads_out_or_deceives_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="at files"):
        parse_manifest(document(files={name: {"sha256": "0" * 64, "bytes": 1}}))


@pytest.mark.parametrize("name", ["..a", "a..", "a/.b", "...", "with space", "ü"])
def test_a_plain_file_name_is_taken(name: str) -> None:
    assert name in parse_manifest(document(files={name: {"sha256": "0" * 64, "bytes": 1}})).files


@pytest.mark.parametrize("metadata", [{"auc": float("nan")}, {"set": {1}}, {"text": "\ud800"}])
def test_what_would_not_be_read_back_is_not_written(metadata: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="cannot be written as JSON"):
        encode_manifest(Manifest("m", "1", "onnx", "2026-01-02T03:04:05Z", {"m": DIGEST}, metadata=metadata))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version's folder with two files and its manifest's file."""
    (tmp_path / "data").mkdir()
    (tmp_path / "model.joblib").write_bytes(b"abc")
    (tmp_path / "data" / "more.bin").write_bytes(b"")
    (tmp_path / MANIFEST).write_bytes(b"{}")
    return tmp_path


def manifest_of(folder: Path) -> Manifest:
    """What the folder holds now."""
    files = {name: digest_file(folder / name) for name in walk_files(folder) if name != MANIFEST}
    return Manifest("m", "1", "joblib", "2026-01-02T03:04:05Z", files)


def test_the_folder_as_recorded(folder: Path) -> None:
    manifest = manifest_of(folder)
    assert sorted(manifest.files) == ["data/more.bin", "model.joblib"]
    check_files(folder, manifest)


@pytest.mark.parametrize("content", [b"abd", b"ab", b"abcd"])
def test_another_byte_names_the_file_and_both_digests(folder: Path, content: bytes) -> None:
    manifest = manifest_of(folder)
    (folder / "model.joblib").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"^model\.joblib has sha256") as caught:
        check_files(folder, manifest)
    assert hashlib.sha256(content).hexdigest() in caught.value.message
    assert hashlib.sha256(b"abc").hexdigest() in caught.value.message


def test_a_missing_and_an_extra_file(folder: Path) -> None:
    manifest = manifest_of(folder)
    (folder / "data" / "other.bin").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"data/other\.bin is in the folder but not in model\.json"):
        check_files(folder, manifest)
    (folder / "data" / "other.bin").unlink()
    (folder / "model.joblib").unlink()
    with pytest.raises(IntegrityError, match=r"model\.joblib is in model\.json but not in the folder"):
        check_files(folder, manifest)


def test_links_and_devices_are_refused(folder: Path) -> None:
    manifest = manifest_of(folder)
    target = folder / "model.joblib"
    content = folder.parent / "elsewhere"
    target.rename(content)
    target.symlink_to(content)
    with pytest.raises(IntegrityError, match=r"model\.joblib is a symbolic link"):
        check_files(folder, manifest)
    target.unlink()
    os.mkfifo(target)
    with pytest.raises(IntegrityError, match=r"model\.joblib is not a plain file"):
        check_files(folder, manifest)


def test_a_linked_folder_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    manifest = manifest_of(folder)
    (folder / "data").rename(tmp_path_factory.mktemp("outside") / "data")
    (folder / "data").symlink_to(tmp_path_factory.getbasetemp())
    with pytest.raises(IntegrityError, match="data is a symbolic link"):
        check_files(folder, manifest)
