"""API keys: who may call, distinguished by name and never by showing the key.

The keys file is a mounted Secret: one `name:sha256-of-key[:model,model…]` a line, `#` starts a comment. It is
read again when it changes, so that keys rotate without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path

from berth.errors import Forbidden, SettingsError, Unauthenticated
from berth.telemetry.reloaded_file import ReloadedFile

_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<digest>[0-9a-fA-F]{64})(:(?P<models>[A-Za-z0-9._,-]+))?")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One known key; `models` is None where it is good for all."""

    name: str
    sha256: str
    models: frozenset[str] | None = None


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys of a file. Raises SettingsError naming the line's number, never its content."""
    keys = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#")[0].strip()
        if not line:
            continue
        if (found := _LINE.fullmatch(line)) is None:
            raise SettingsError(
                f"API keys file, line {number}: want name:sha256-of-key or name:sha256-of-key:model,model"
            )
        models = frozenset(found["models"].split(",")) if found["models"] else None
        keys.append(ApiKey(found["name"], found["digest"].lower(), models))
    return tuple(keys)


def encode_key(key: str) -> str:
    """The digest of a key, as the file holds it."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyRing:
    """The keys of one file, read again when its identity, size or time changes."""

    def __init__(self, path: Path) -> None:
        self._file = ReloadedFile("BERTH_API_KEYS_FILE", "keys", path, parse_keys)

    def authenticate(self, authorization: str | None, api_key: str | None) -> ApiKey:
        """The key behind `Authorization: Bearer` or `X-Api-Key`. Raises Unauthenticated."""
        scheme, _, token = (authorization or "").partition(" ")
        offered = token.strip() if scheme.lower() == "bearer" else (api_key or "")
        if not offered:
            raise Unauthenticated(
                "this route needs a key; send Authorization: Bearer KEY or X-Api-Key: KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
        digest = encode_key(offered)
        found: ApiKey | None = None
        for key in self._file.content:  # all of them, so that the time does not reveal which one matched
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None:
            raise Unauthenticated("this key is not known", headers={"WWW-Authenticate": "Bearer"})
        return found


def check_allowed(key: ApiKey | None, model: str, told: str = "") -> None:
    """That `key` may use `model`; `told` is what an error says instead of its name. Raises Forbidden."""
    if key is not None and key.models is not None and model not in key.models:
        raise Forbidden(f"the key {key.name!r} is not for {told or f'the model {model!r}'}")
