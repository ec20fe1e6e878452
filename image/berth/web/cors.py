"""Cross-origin requests: which pages of other origins may call this server (BERTH_CORS_ORIGINS).

https://fetch.spec.whatwg.org/#http-cors-protocol
Cookies are never allowed: callers identify themselves by an API key in a header, which a page must know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANY = "*"
# What a page may read of a response, beside the few fields that it always may.
_EXPOSED = (
    "Age, Inference-Header-Content-Length, Retry-After, X-Berth-Arm, X-Berth-Experiment, X-Berth-Model, "
    "X-Berth-Receipt, X-Berth-Slot, X-Request-Id"
)
_FIELD_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_MAX_AGE_SECONDS = "600"


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """The origins that may call, in small letters; `*` among them is all."""

    origins: frozenset[str]

    def _allowed(self, environ: Mapping[str, Any]) -> str | None:
        if (origin := environ.get("HTTP_ORIGIN")) is None:
            return None
        if ANY in self.origins:
            return ANY
        return str(origin) if origin.lower() in self.origins else None

    def allows_preflight(self, environ: Mapping[str, Any]) -> bool:
        """Whether a request is a browser's question, without a key, whether an allowed page may send another."""
        return "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ and self._allowed(environ) is not None

    def preflight_fields(self, environ: Mapping[str, Any], methods: str) -> dict[str, str]:
        """The fields that allow `methods`, with the header fields that the browser names."""
        wanted = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        named = {"Access-Control-Allow-Headers": wanted} if _FIELD_NAMES.fullmatch(wanted) else {}
        return {"Access-Control-Allow-Methods": methods, **named, "Access-Control-Max-Age": _MAX_AGE_SECONDS}

    def response_fields(self, environ: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The fields of any response; Vary says to caches that it depends on the origin, unless all may read it."""
        vary = [] if ANY in self.origins else [("Vary", "Origin")]
        if (allowed := self._allowed(environ)) is None:
            return vary
        return [("Access-Control-Allow-Origin", allowed), ("Access-Control-Expose-Headers", _EXPOSED), *vary]


def make_cors(origins: str) -> CorsPolicy | None:
    """The policy of a list with commas; None where it is empty."""
    named = frozenset(origin.strip().lower() for origin in origins.split(",") if origin.strip())
    return CorsPolicy(named) if named else None
