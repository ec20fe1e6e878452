"""Signatures on the way into a store: fetched and checked before the files that they cover."""

from __future__ import annotations

from berth.errors import IntegrityError, StoreError
from berth.models.manifest import SIGNATURE, Manifest
from berth.models.signing import SIGNATURE_BYTES, check_signature
from berth.models.store import Entry, read_manifest_text, read_signature, write_signature
from berth.pulling.addresses import Access
from berth.pulling.transfer import ModelSource, read_small


def fetch_signature(source: ModelSource, entry: Entry, text: bytes, manifest: Manifest, access: Access) -> bytes | None:
    """model.sig of a version whose model.json is `text`; None without one, where no keys ask for it.

    Raises IntegrityError with keys: unsigned, or by none of them. A source may return 403 for what is not there.
    """
    try:
        path = f"{entry.name}/{entry.version}/{SIGNATURE}"
        found: bytes | None = read_small(source, path, SIGNATURE_BYTES, access.persistence)
    except StoreError as error:
        if isinstance(error.__cause__, ConnectionError):
            raise
        found = None
    if access.signature_keys:
        check_signature(found, manifest, text, access.signature_keys)
    elif found is not None and not found.lstrip().startswith(b"{"):  # a page for people, of a server that knows no 404
        return None
    return found


def is_trusted(entry: Entry, access: Access) -> bool:
    """Whether a version that is here already has the signature that the keys ask for."""
    if not access.signature_keys:
        return True
    text, manifest = read_manifest_text(entry)
    try:
        check_signature(read_signature(entry), manifest, text, access.signature_keys)
    except IntegrityError:
        return False
    return True


def renew_signature(source: ModelSource, entry: Entry, access: Access) -> None:
    """Fetch model.sig for a version that is here without a valid one. Raises IntegrityError."""
    text, manifest = read_manifest_text(entry)
    found = fetch_signature(source, entry, text, manifest, access)
    if found is not None:
        write_signature(entry, found)
