"""How pods of one slot know each other where API keys are on: by the secret that they sign receipts with."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

HEADER = "X-Berth-Peer"
_VALID_SECONDS = 120


def _sign(secret: bytes, moment: str) -> str:
    return hmac.new(secret, f"berth-peer {moment}".encode(), hashlib.sha256).hexdigest()


def make_token(secrets: Sequence[bytes], now: float) -> str:
    """What a pod sends to its peers; empty without a secret."""
    return f"{now:.0f}.{_sign(secrets[0], f'{now:.0f}')}" if secrets else ""


def is_peer(secrets: Sequence[bytes], token: str, now: float) -> bool:
    """Whether a token was made with one of the secrets within two minutes."""
    moment, _, signature = token.partition(".")
    if not (moment.isascii() and moment.isdigit()) or len(moment) > 18 or abs(now - int(moment)) > _VALID_SECONDS:
        return False
    return any(hmac.compare_digest(_sign(secret, moment), signature) for secret in secrets if signature.isascii())
