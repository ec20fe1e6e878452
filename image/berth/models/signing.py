"""model.sig: who vouches for a version, in the OpenSSF model-signing format 1.0.

It is a Sigstore bundle: one DSSE envelope around an in-toto statement, whose predicate lists every file of the version
with its sha256, model.json among them. Elliptic-curve keys (P-256, P-384, P-521) sign it. `model_signing` on PyPI
reads and writes the same files: https://github.com/ossf/model-signing-spec.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from berth.errors import IntegrityError, SettingsError
from berth.models.manifest import MANIFEST, SIGNATURE, Manifest

SIGNATURE_BYTES = 8 << 20
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)
_HASH_BY_BITS = {256: "SHA256", 384: "SHA384", 521: "SHA512"}
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key that versions may be signed with; `hint` is the sha256 of its PEM, as bundles name it."""

    hint: str
    key: Any


@dataclass(frozen=True, slots=True)
class _Envelope:
    """The parts of a bundle, none of them verified."""

    payload: bytes
    signature: bytes
    hint: str


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise SettingsError(
            "signatures need the library cryptography, which is not installed: pip install 'berth[sign]'"
        ) from error


def _hash_of(key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes

    return getattr(hashes, _HASH_BY_BITS[key.curve.key_size])()


def _check_curve(key: Any, where: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
        raise SettingsError(f"{where} is no elliptic-curve key on P-256, P-384 or P-521: make one with openssl ecparam")


def _public_key(key: Any, where: str) -> PublicKey:
    from cryptography.hazmat.primitives import serialization

    _check_curve(key, where)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(hashlib.sha256(pem).hexdigest(), key)


def parse_public_keys(text: str, where: str) -> tuple[PublicKey, ...]:
    """The PEM public keys in `text`, anything between them being a comment. Raises SettingsError."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = []
    for number, block in enumerate(_PEM.finditer(text), 1):
        which = f"key {number} of {where}"
        if block[1] != "PUBLIC KEY":
            raise SettingsError(f"{which} is a PEM {block[1]}: want PUBLIC KEY, as `openssl ec -pubout` writes it")
        try:
            found.append(_public_key(load_pem_public_key(block[0].encode()), which))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SettingsError(f"{which} is no public key that can be read: {str(error)[:_SHOWN]}") from error
    if not found:
        raise SettingsError(f"{where} holds no PEM public key; write one with `openssl ec -in key.pem -pubout`")
    return tuple(found)


def read_public_keys(files: Sequence[str]) -> tuple[PublicKey, ...]:
    """The keys of all of the files, read now. Raises SettingsError."""
    found: list[PublicKey] = []
    for file in files:
        try:
            found += parse_public_keys(Path(file).read_text("utf-8"), file)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the signature keys {file!r} cannot be read: {error}") from error
    return tuple(found)


def read_private_key(path: Path, password: bytes | None = None) -> Any:
    """The PEM private key to sign with. Raises SettingsError, which shows nothing of it."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password)
    except TypeError as error:
        hint = "is not encrypted: leave --password-file out" if password else "is encrypted: give --password-file"
        raise SettingsError(f"the key {str(path)!r} {hint}") from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        reason = error.strerror if isinstance(error, OSError) else "no PEM private key, or another password"
        raise SettingsError(f"the key {str(path)!r} cannot be read: {reason}") from error
    _check_curve(key.public_key(), f"the key {str(path)!r}")
    return key


def _digests(manifest: Manifest, text: bytes) -> dict[str, str]:
    """The sha256 of every file that a signature covers; `text` is model.json as it is on the disk."""
    return {name: file.sha256 for name, file in manifest.files.items()} | {MANIFEST: hashlib.sha256(text).hexdigest()}


def _sum(digests: Sequence[str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def _statement(manifest: Manifest, text: bytes) -> bytes:
    digests = dict(sorted(_digests(manifest, text).items()))
    resources = [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in digests.items()]
    serialization = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": False,
        "ignore_paths": [SIGNATURE],
    }
    document = {
        "_type": _STATEMENT,
        "subject": [{"name": f"{manifest.name}@{manifest.version}", "digest": {"sha256": _sum([*digests.values()])}}],
        "predicateType": _PREDICATE,
        "predicate": {"serialization": serialization, "resources": resources},
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _authenticated(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding (https://github.com/secure-systems-lab/dsse)."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def sign_version(manifest: Manifest, text: bytes, private_key: Any) -> bytes:
    """model.sig for a version whose model.json is `text`. Raises IntegrityError."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if SIGNATURE in manifest.files:
        raise IntegrityError(f"{MANIFEST} lists {SIGNATURE} as a file of the model; add the model without it")
    public = _public_key(private_key.public_key(), "the key")
    payload = _statement(manifest, text)
    signature = private_key.sign(_authenticated(payload), ec.ECDSA(_hash_of(public.key)))
    document = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": public.hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(document).encode() + b"\n"


def _parse_bundle(text: bytes) -> _Envelope:
    """The parts of model.sig. Raises IntegrityError."""
    try:
        document = json.loads(text)
        material, envelope = document["verificationMaterial"], document["dsseEnvelope"]
        if "publicKey" not in material:
            raise IntegrityError(
                f"{SIGNATURE} is signed with a certificate, not with a key: verify it with model_signing, then sign "
                "the version with `berth sign`"
            )
        (signature,) = envelope["signatures"]
        kinds = (document["mediaType"], envelope["payloadType"])
        if kinds != (_BUNDLE, _PAYLOAD):
            raise IntegrityError(f"{SIGNATURE} is a bundle of {str(kinds)[:_SHOWN]}; want {_BUNDLE} with {_PAYLOAD}")
        return _Envelope(
            base64.b64decode(envelope["payload"], validate=True),
            base64.b64decode(signature["sig"], validate=True),
            str(material["publicKey"].get("hint") or ""),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as error:
        raise IntegrityError(
            f"{SIGNATURE} is no Sigstore bundle with one signature; make it with `berth sign` or model_signing"
        ) from error


def _check_signed(envelope: _Envelope, keys: Sequence[PublicKey]) -> None:
    """That one of the keys signed the envelope. Raises IntegrityError."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    known = [key for key in keys if envelope.hint in ("", key.hint)]
    if not known:
        raise IntegrityError(
            f"{SIGNATURE} is signed with the key {envelope.hint[:64]!r}, which is none of the {len(keys)} known keys"
        )
    for public in known:
        try:
            public.key.verify(envelope.signature, _authenticated(envelope.payload), ec.ECDSA(_hash_of(public.key)))
            return
        except InvalidSignature:
            continue
    raise IntegrityError(f"{SIGNATURE} is not a valid signature of any of the {len(keys)} known keys")


def _parse_statement(payload: bytes) -> dict[str, str]:
    """The sha256 of each file that a signed statement lists. Raises IntegrityError."""
    try:
        document = json.loads(payload)
        kinds = (document["_type"], document["predicateType"])
        if kinds != (_STATEMENT, _PREDICATE):
            raise IntegrityError(f"{SIGNATURE} signs {str(kinds)[:_SHOWN]}; want {_STATEMENT} with {_PREDICATE}")
        serialization = document["predicate"]["serialization"]
        if (serialization["method"], serialization["hash_type"]) != ("files", "sha256"):
            raise IntegrityError(
                f"{SIGNATURE} lists {str(serialization['method'])[:40]} with {str(serialization['hash_type'])[:40]}; "
                "sign whole files with sha256"
            )
        rows = [(str(row["name"]), str(row["digest"]).lower()) for row in document["predicate"]["resources"]]
        (subject,) = document["subject"]
        whole = _sum([digest for _, digest in rows])
        if len(dict(rows)) != len(rows) or str(subject["digest"]["sha256"]).lower() != whole:
            raise IntegrityError(f"{SIGNATURE} contradicts itself: a file twice, or another digest of the whole")
        return dict(rows)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{SIGNATURE} signs something else than a model's files") from error


def _compare(signed: Mapping[str, str], found: Mapping[str, str]) -> None:
    """That exactly the files of a version are signed. Raises IntegrityError naming the first that differs."""
    if missing := sorted(found.keys() - signed.keys()):
        raise IntegrityError(f"{SIGNATURE} does not cover {missing[0]}")
    if extra := sorted(signed.keys() - found.keys()):
        raise IntegrityError(f"{SIGNATURE} covers {extra[0][:_SHOWN]}, which the version does not have")
    for name, digest in sorted(found.items()):
        if signed[name] != digest:
            raise IntegrityError(f"{SIGNATURE} was made for {name} with sha256 {signed[name][:64]}, not {digest}")


def check_signature(bundle: bytes | None, manifest: Manifest, text: bytes, keys: Sequence[PublicKey]) -> None:
    """That `bundle` (None: there is none) is a signature by one of the keys over exactly this version.

    It covers the digests that model.json lists; whether the files have them is for `check_files`. Raises
    IntegrityError.
    """
    key = f"{manifest.name}@{manifest.version}"
    if bundle is None:
        raise IntegrityError(f"{key} is not signed: it has no {SIGNATURE}; sign it with `berth sign {key} --key KEY`")
    envelope = _parse_bundle(bundle)
    _check_signed(envelope, keys)
    _compare(_parse_statement(envelope.payload), _digests(manifest, text))
