"""Large artifacts of an MLflow server straight from their bucket, where the server signs an address for that.

A signed address is used only where it leads to a bucket's host that is known here; the server's own word is not enough
to contact any host. No credentials go there: the signature in the address is all that it needs. In every other case the
artifact comes through the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from berth.errors import StoreError
from berth.pulling.https import WebRules, WebSource
from berth.pulling.transfer import Persistence

# Below it, asking for an address takes longer than it saves.
LARGE_BYTES = 32 << 20
# Other names below amazonaws.com are customers' own: s3-x.us-east-1.elb.amazonaws.com is a load balancer.
_BUCKETS = re.compile(
    r"([a-z0-9.-]+\.)?s3(\.dualstack)?([.-][a-z]{2}(-[a-z]+)+-[0-9]+)?\.amazonaws\.com(\.cn)?"
    r"|([a-z0-9.-]+\.)?storage\.googleapis\.com"
    r"|[a-z0-9]+\.(blob|dfs)\.core\.windows\.net"
)


@dataclass(frozen=True, slots=True)
class SignedAddresses:
    """Who signs (`ask` gets a path, returns the server's JSON object, raises StoreError), and where it may lead.

    `endpoint` is the URL of an S3-compatible store of one's own, as in MLFLOW_S3_ENDPOINT_URL.
    """

    ask: Callable[[str], Mapping[str, Any]]
    endpoint: str
    persistence: Persistence
    large_bytes: int = LARGE_BYTES

    def _allows(self, url: str) -> bool:
        try:
            parts, own = urlsplit(url), urlsplit(self.endpoint)
        except ValueError:
            return False
        if own.netloc and (parts.scheme, parts.netloc) == (own.scheme, own.netloc):
            return True
        return parts.scheme == "https" and parts.port in (None, 443) and bool(_BUCKETS.fullmatch(parts.hostname or ""))

    def find(self, path: str, size: int | None) -> WebSource | None:
        """The artifact in its bucket; None where it has to come through the server."""
        if size is None or size < self.large_bytes:
            return None
        try:
            answer = self.ask(path)
        except StoreError as error:
            if isinstance(error.__cause__, ConnectionError):
                raise
            return None  # a server of files, or one that is older
        url = str(answer.get("url", ""))
        if answer.get("headers") or not self._allows(url):
            return None
        return WebSource(url, "", self.persistence, WebRules(advice="the signed address is refused", only_here=True))
