"""Every endpoint there is, as one table: the pipeline, Flask, the OpenAPI document and the list at `/` all read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from berth.web import (
    console,
    drift_report,
    experiment_report,
    ground_truth,
    invocations,
    ops,
    predict,
    quality_report,
    v1,
    v2,
)
from berth.web.exchange import Endpoint
from berth.web.openapi import document

ENDPOINTS: tuple[Endpoint, ...] = (
    *predict.ENDPOINTS,
    *invocations.ENDPOINTS,
    *v2.ENDPOINTS,
    *v1.ENDPOINTS,
    *ground_truth.ENDPOINTS,
    *ops.ENDPOINTS,
    *drift_report.ENDPOINTS,
    *quality_report.ENDPOINTS,
    *experiment_report.ENDPOINTS,
    *document.ENDPOINTS,
    *console.ENDPOINTS,
)
# Names as nearly every model has them; Flask's routing finds a path with any other letter in it, at its usual speed.
_WORD = r"[A-Za-z0-9._-]+"
_PREDICTIONS = [
    (re.compile(re.sub(r"<(\w+)>", rf"(?P<\1>{_WORD})", re.sub(r"\.", r"\\.", endpoint.rule))), endpoint)
    for endpoint in ENDPOINTS
    if endpoint.protocol
]
# A longer path is rare, and would fill the cache with what a client made up.
_MOST_CHARACTERS = 256


def match_prediction(path: str) -> tuple[Endpoint, Mapping[str, str]] | None:
    """The endpoint that a POST to `path` reaches, and the path's variable parts; None where none runs a model."""
    return _match(path) if len(path) <= _MOST_CHARACTERS else None


@lru_cache(maxsize=1024)
def _match(path: str) -> tuple[Endpoint, Mapping[str, str]] | None:
    for pattern, endpoint in _PREDICTIONS:
        if (found := pattern.fullmatch(path)) is not None:
            return endpoint, found.groupdict()
    return None
