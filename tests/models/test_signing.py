"""Signatures: what one covers, whose are accepted, and that model_signing reads ours and we read its."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from berth.cli.main import berth
from berth.errors import IntegrityError, SettingsError
from berth.models.manifest import MANIFEST, SIGNATURE, Manifest, digest_file, encode_manifest
from berth.models.signing import parse_public_keys, read_private_key, read_public_keys, sign_version
from berth.models.store import Entry, read_manifest_text, verify_version, write_signature, write_version
from other_venv import other_venv

CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
_PLAIN = serialization.NoEncryption()
Change = Callable[[Path], None]


def write_key(path: Path, key: object, encryption: serialization.KeySerializationEncryption = _PLAIN) -> Path:
    """A private key at `path`, its public key beside it as .pub."""
    assert isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    public = key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(pem)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The team's key."""
    return write_key(tmp_path / "team.pem", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """A version with 49 files beside its model.json."""

    def fill(part: Path) -> None:
        for number in range(49):
            file = part / ("model.onnx" if not number else f"d{number % 5}/f{number}.bin")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(random.Random(number).randbytes(100 + number))
        files = {path.relative_to(part).as_posix(): digest_file(path) for path in part.rglob("*") if path.is_file()}
        (part / MANIFEST).write_bytes(encode_manifest(Manifest("big", "1", "onnx", "2026-01-02T03:04:05Z", files)))

    return write_version(tmp_path / "store", "big", "1", fill)


def run(*words: str | Path) -> Result:
    """`berth` with these words."""
    return CliRunner().invoke(berth, [str(word) for word in words], standalone_mode=False)


def sign(entry: Entry, key: Path) -> None:
    """model.sig for the version, by `berth sign`."""
    result = run("sign", entry.key, "--key", key, "--store", entry.folder.parents[1])
    assert result.exception is None, result.exception
    assert f"covers {len(list(entry.folder.rglob('*.*'))) - 1} files" in result.output


def check(entry: Entry, *keys: Path) -> None:
    """That one of the keys signed the version."""
    verify_version(entry, read_public_keys([str(key.with_suffix(".pub")) for key in keys]))


@pytest.mark.parametrize("curve", CURVES)
def test_a_signed_version_is_accepted(entry: Entry, tmp_path: Path, curve: str) -> None:
    key = write_key(tmp_path / "k.pem", ec.generate_private_key(CURVES[curve]()))
    sign(entry, key)
    check(entry, key)
    verify_version(entry)


def test_any_of_several_keys_will_do(entry: Entry, key: Path, tmp_path: Path) -> None:
    other = write_key(tmp_path / "other.pem", ec.generate_private_key(ec.SECP384R1()))
    sign(entry, other)
    check(entry, key, other)
    with pytest.raises(IntegrityError, match="none of the 1 known keys"):
        check(entry, key)
    sign(entry, key)  # again, with another key: it replaces the signature
    check(entry, key)


def test_an_unsigned_version_is_refused(entry: Entry, key: Path) -> None:
    with pytest.raises(
        IntegrityError, match=r"big@1 is not signed: it has no model\.sig; sign it with `berth sign big@1"
    ):
        check(entry, key)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _adopt(folder: Path) -> None:
    """Make model.json describe the folder as it is now: digests alone would be content."""
    document = json.loads((folder / MANIFEST).read_bytes())
    names = [path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, SIGNATURE)]
    digests = {path.relative_to(folder).as_posix(): digest_file(path) for path in names}
    document["files"] = {name: {"sha256": one.sha256, "bytes": one.bytes} for name, one in digests.items()}
    (folder / MANIFEST).write_text(json.dumps(document))


@pytest.mark.parametrize("adopt", [False, True])
def test_any_file_of_fifty_that_changes_is_refused(entry: Entry, key: Path, tmp_path: Path, adopt: bool) -> None:
    sign(entry, key)
    names = sorted(path.relative_to(entry.folder).as_posix() for path in entry.folder.rglob("*") if path.is_file())
    names.remove(SIGNATURE)
    assert len(names) == 50
    refused = 0
    for name in names:
        changes: list[Change] = [
            lambda folder, name=name: _flip(folder / name),  # type: ignore[misc]
            lambda folder, name=name: (folder / name).unlink(),  # type: ignore[misc]
            lambda folder, name=name: (folder / name).rename(folder / f"{name}x"),  # type: ignore[misc]
            lambda folder, name=name: shutil.copyfile(folder / name, folder / f"{name}.more"),  # type: ignore[misc]
        ]
        for change in changes if name != MANIFEST else changes[:1]:
            copy = Entry("big", "1", tmp_path / "changed" / "big" / "1")
            shutil.rmtree(copy.folder, ignore_errors=True)
            shutil.copytree(entry.folder, copy.folder)
            change(copy.folder)
            if adopt and name != MANIFEST:
                _adopt(copy.folder)
                verify_version(copy)
            with pytest.raises(Exception, match=r"model\.(sig|json)"):
                check(copy, key)
            refused += 1
    assert refused == 4 * 49 + 1


def _edit(entry: Entry, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads((entry.folder / SIGNATURE).read_bytes())
    change(document)
    (entry.folder / SIGNATURE).write_text(json.dumps(document))


BROKEN: dict[str, Callable[[dict[str, object]], object]] = {
    "no envelope": lambda bundle: bundle.pop("dsseEnvelope"),
    "no signature": lambda bundle: bundle["dsseEnvelope"]["signatures"].clear(),  # type: ignore[index]
    "two signatures": lambda bundle: bundle["dsseEnvelope"]["signatures"].append({"sig": ""}),  # type: ignore[index]
    "no base64": lambda bundle: bundle["dsseEnvelope"].update(payload="%"),  # type: ignore[attr-defined]
    "another payload": lambda bundle: bundle["dsseEnvelope"].update(payload="e30="),  # type: ignore[attr-defined]
    "another type": lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),  # type: ignore[attr-defined]
    "another bundle": lambda bundle: bundle.update(mediaType="x"),
    "a certificate": lambda bundle: bundle.update(verificationMaterial={"certificate": {}}),
    "a list": lambda bundle: bundle.update(verificationMaterial=[]),
    "an empty signature": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=""),  # type: ignore[index]
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_bundle_is_refused_in_one_line(entry: Entry, key: Path, what: str) -> None:
    sign(entry, key)
    _edit(entry, BROKEN[what])
    with pytest.raises(IntegrityError, match=r"^model\.sig is [^\n]+$"):
        check(entry, key)


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"{" * 100_000, b"null"])
def test_what_is_no_bundle(entry: Entry, key: Path, text: bytes) -> None:
    write_signature(entry, text)
    with pytest.raises(IntegrityError, match="no Sigstore bundle"):
        check(entry, key)


def test_a_signed_statement_about_something_else(entry: Entry, key: Path) -> None:
    private = read_private_key(key)
    text, manifest = read_manifest_text(entry)
    bundle = json.loads(sign_version(manifest, text, private))
    good = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statements = [
        good | {"predicateType": "https://slsa.dev/provenance/v1"},
        good | {"predicate": {"serialization": {"method": "shards", "hash_type": "sha256"}, "resources": []}},
        good | {"subject": [{"name": "x", "digest": {"sha256": "0" * 64}}]},
        [],
    ]
    for statement in statements:
        payload = json.dumps(statement).encode()
        kind = b"application/vnd.in-toto+json"
        signed = private.sign(
            b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload),
            ec.ECDSA(hashes.SHA256()),
        )
        envelope = bundle["dsseEnvelope"] | {"payload": base64.b64encode(payload).decode()}
        envelope["signatures"] = [{"sig": base64.b64encode(signed).decode()}]
        write_signature(entry, json.dumps(bundle | {"dsseEnvelope": envelope}).encode())
        with pytest.raises(IntegrityError, match=r"model\.sig (signs|lists|contradicts)"):
            check(entry, key)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no PEM public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "key 1 of F is no public key that can be read"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "key 1 of F is a PEM PRIVATE KEY"),
    ],
)
def test_files_that_hold_no_keys(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_public_keys(text, "F")


def test_other_kinds_of_keys(tmp_path: Path) -> None:
    edwards = write_key(tmp_path / "e.pem", ed25519.Ed25519PrivateKey.generate())
    koblitz = write_key(tmp_path / "k.pem", ec.generate_private_key(ec.SECP256K1()))
    for path in (edwards, koblitz):
        with pytest.raises(SettingsError, match="no elliptic-curve key on P-256, P-384 or P-521"):
            read_private_key(path)
        with pytest.raises(SettingsError, match="no elliptic-curve key"):
            read_public_keys([str(path.with_suffix(".pub"))])


def test_an_encrypted_key(entry: Entry, tmp_path: Path) -> None:
    encryption = serialization.BestAvailableEncryption(b"secret")
    key = write_key(tmp_path / "locked.pem", ec.generate_private_key(ec.SECP256R1()), encryption)
    password = tmp_path / "password"
    password.write_text("secret\n")
    store = entry.folder.parents[1]
    assert "is encrypted: give --password-file" in str(run("sign", "big", "--key", key, "--store", store).exception)
    words = ("sign", "big@1", "--key", key, "--password-file", password, "--store", store)
    assert run(*words).exception is None
    check(entry, key)
    password.write_text("wrong")
    assert "or another password" in str(run(*words).exception)


def test_a_changed_version_is_not_signed(entry: Entry, key: Path) -> None:
    _flip(entry.folder / "model.onnx")
    result = run("sign", "big@1", "--key", key, "--store", entry.folder.parents[1])
    assert isinstance(result.exception, IntegrityError)
    assert not (entry.folder / SIGNATURE).exists()


@pytest.fixture(scope="module")
def model_signing() -> Callable[..., subprocess.CompletedProcess[str]]:
    """OpenSSF's own program."""
    program = other_venv("model-signing", Path(__file__).parents[1] / "venvs" / "model-signing.txt") / "model_signing"

    def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *map(str, words)], check=False, capture_output=True, text=True)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("curve", CURVES)
def test_model_signing_reads_ours_and_we_read_its(
    entry: Entry,
    tmp_path: Path,
    curve: str,
    model_signing: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    key = write_key(tmp_path / "k.pem", ec.generate_private_key(CURVES[curve]()))
    place = (entry.folder, "--signature", entry.folder / SIGNATURE)
    sign(entry, key)
    done = model_signing("verify", "key", *place, "--public_key", key.with_suffix(".pub"))
    assert done.returncode == 0, done.stderr
    (entry.folder / SIGNATURE).unlink()
    done = model_signing("sign", "key", *place, "--private_key", key)
    assert done.returncode == 0, done.stderr
    check(entry, key)
    _flip(entry.folder / "d1" / "f1.bin")
    assert model_signing("verify", "key", *place, "--public_key", key.with_suffix(".pub")).returncode != 0
    with pytest.raises(IntegrityError):
        check(entry, key)
