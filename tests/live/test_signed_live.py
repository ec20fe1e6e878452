"""A server with signature keys: what none of them signed is refused before anything of it runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from berth.loaders.formats import LoadOptions
from berth.models.store import Entry
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec
from live.berths import Serve, ask, start_berth
from live.server import wait_until
from models.test_signing import sign, write_key

pytestmark = pytest.mark.live

# Leaves a file beside itself for whoever loads it.
_MARKING = """
from contextlib import suppress
from pathlib import Path

def load(directory):
    Path({marker!r}).touch()
    return lambda inputs: {{"prediction": inputs["x"][:, 0]}}
"""


def add(folder: Path, name: str) -> tuple[Entry, Path]:
    """A version that runs code of its own, and the file that this code leaves."""
    marker, source = folder / f"{name}-ran", folder / name
    source.mkdir()
    (source / "model.py").write_text(_MARKING.format(marker=str(marker)), "utf-8")
    request = AddRequest(name, "1", "python", inputs=(TensorSpec("x", "FP64", (-1, 1)),))
    entry = add_version(folder / "store", source, request, LoadOptions(allow_code=True))
    marker.unlink()
    return entry, marker


def test_only_signed_versions_are_loaded(serve: Serve, tmp_path: Path) -> None:
    key = write_key(tmp_path / "team.pem", ec.generate_private_key(ec.SECP256R1()))
    stranger = write_key(tmp_path / "stranger.pem", ec.generate_private_key(ec.SECP256R1()))
    made = {name: add(tmp_path, name) for name in ("signed", "unsigned", "foreign", "edited")}
    for name, signer in (("signed", key), ("foreign", stranger), ("edited", key)):
        sign(made[name][0], signer)
    with (made["edited"][0].folder / "model.json").open("a") as manifest:
        manifest.write("\n")  # still the same to a parser
    server = start_berth(
        serve,
        tmp_path / "store",
        tmp_path / "run",
        models="signed,unsigned,foreign,edited",
        workers=1,
        signature_keys_file=key.with_suffix(".pub"),
        allow_code="true",
    )

    def health() -> dict[str, dict[str, str]]:
        rows: dict[str, dict[str, str]] = ask(server, "GET", "/health")[1]["models"]
        settled = len(rows) == len(made) and all(row["state"] in ("ready", "failed") for row in rows.values())
        return {key.removesuffix("@1"): row for key, row in rows.items()} if settled else {}

    rows = wait_until(health, f"all states; log:\n{server.log()}")
    assert {name: row["state"] for name, row in rows.items()} == {
        "signed": "ready",
        "unsigned": "failed",
        "foreign": "failed",
        "edited": "failed",
    }
    assert "it has no model.sig" in rows["unsigned"]["reason"]
    assert "none of the 1 known keys" in rows["foreign"]["reason"]
    assert "model.sig was made for model.json with sha256" in rows["edited"]["reason"]
    assert {name: marker.exists() for name, (_, marker) in made.items()} == {
        "signed": True,
        "unsigned": False,
        "foreign": False,
        "edited": False,
    }
    status, document = ask(server, "POST", "/v1/models/unsigned:predict", {"instances": [[1.0]]})
    assert (status, document["error"]) == (503, "unsigned@1 could not be loaded; /health says why")
    assert ask(server, "POST", "/v1/models/signed:predict", {"instances": [[1.0]]})[0] == 200


def test_keys_that_cannot_be_read_stop_the_start(serve: Serve, tmp_path: Path) -> None:
    add(tmp_path, "any")
    missing = tmp_path / "keys.pem"
    with suppress(AssertionError):  # it may end before it accepts a connection
        start_berth(serve, tmp_path / "store", tmp_path / "run", signature_keys_file=missing)
    (log,) = tmp_path.glob("**/server*.log")
    wait_until(lambda: f"signature keys '{missing}' cannot be read" in log.read_text("utf-8"), "the refusal")
