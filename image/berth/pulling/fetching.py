"""From the URI of a model somewhere to a file or folder here: one table of schemes, for `berth add`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

from berth.errors import SettingsError, StoreError
from berth.pulling.authorization import encode_basic
from berth.pulling.bucket import LIBRARIES
from berth.pulling.layers import fetch_image
from berth.pulling.origin import Fetched
from berth.pulling.registry_dvc import fetch_dvc
from berth.pulling.registry_hf import fetch_hub_file
from berth.pulling.registry_mlflow import MlflowServer, fetch_mlflow
from berth.pulling.single_file import fetch_bucket_file, fetch_web_file
from berth.pulling.transfer import Persistence
from berth.telemetry.logs import timestamp

# (what follows the scheme, the environment, an empty folder, how long to try) -> what came.
Fetch: TypeAlias = Callable[[str, Mapping[str, str], Path, Persistence], Fetched]
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(?=\S)")


def _mlflow_server(environ: Mapping[str, str]) -> MlflowServer:
    """The tracking server of MLflow's own variables. Raises SettingsError, without their values."""
    url = environ.get("MLFLOW_TRACKING_URI", "")
    if not url:
        raise SettingsError("mlflow: needs MLFLOW_TRACKING_URI, the URL of the tracking server, in the environment")
    token = environ.get("MLFLOW_TRACKING_TOKEN", "")
    basic = encode_basic(environ.get("MLFLOW_TRACKING_USERNAME", ""), environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    return MlflowServer(
        url,
        basic or (f"Bearer {token}" if token else ""),
        environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH", ""),
        environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH", ""),
        environ.get("MLFLOW_S3_ENDPOINT_URL", ""),
    )


def _fetch_mlflow(rest: str, environ: Mapping[str, str], into: Path, persistence: Persistence) -> Fetched:
    return fetch_mlflow(rest, _mlflow_server(environ), into, persistence)


SCHEMES: Mapping[str, Fetch] = {
    "mlflow": _fetch_mlflow,
    "oci": fetch_image,
    "hf": fetch_hub_file,
    "dvc": fetch_dvc,
    **{scheme: partial(fetch_web_file, scheme) for scheme in ("http", "https")},
    **{scheme: partial(fetch_bucket_file, scheme) for scheme in LIBRARIES},
}


def scheme_of(text: str) -> str:
    """The scheme of a URI; empty for a path, also for one that is there and has a colon in it."""
    found = _SCHEME.match(text)
    return "" if found is None or Path(text).exists() else found[1]


def fetch_model(uri: str, environ: Mapping[str, str], into: Path, persistence: Persistence) -> Fetched:
    """The model at `uri`, below the empty folder `into`. Raises StoreError, SettingsError."""
    scheme = scheme_of(uri)
    if (fetch := SCHEMES.get(scheme)) is None:
        raise StoreError(f"{scheme}: is no source of models; use a file, a folder, or {', '.join(sorted(SCHEMES))}")
    fetched = fetch(uri[len(scheme) + 1 :], environ, into, persistence)
    return Fetched(fetched.path, {**fetched.source, "fetched_at": timestamp()})
