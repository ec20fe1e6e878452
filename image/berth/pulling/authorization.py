"""What goes into the Authorization header for stores behind http(s); never shown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from berth.errors import SettingsError


def encode_basic(name: str, password: str) -> str:
    """The header's value for a user's name and password; empty without a name."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode() if name else ""


def store_authorization(environ: Mapping[str, str]) -> str:
    """The Authorization header of STORE_TOKEN, or STORE_USERNAME and STORE_PASSWORD. Raises SettingsError."""
    token, name = environ.get("STORE_TOKEN", ""), environ.get("STORE_USERNAME", "")
    if token and name:
        raise SettingsError("STORE_TOKEN and STORE_USERNAME are both set; keep one")
    if re.search(r"[^\x21-\x7e]", token.strip()):
        raise SettingsError("STORE_TOKEN holds more than printable ASCII characters")
    return f"Bearer {token.strip()}" if token else encode_basic(name, environ.get("STORE_PASSWORD", ""))
