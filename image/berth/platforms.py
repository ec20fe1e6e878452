"""Platforms that start a container by a contract of their own: what their variables mean as settings and routes.

    SageMaker   IMAGE serve, a model in /opt/ml/model, port 8080, GET /ping and POST /invocations
                https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
    Vertex AI   AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE, AIP_STORAGE_URI
                https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
    Azure ML    AZUREML_MODEL_DIR, port 5001, POST /score
                https://learn.microsoft.com/azure/machine-learning/how-to-deploy-custom-container

A setting of Berth's own wins over what is found here, except for a model store that is empty: the image names one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from berth.errors import SettingsError

_STORE, _PORT = "BERTH_MODEL_STORE", "BERTH_PORT"
# Where sagemaker's own toolkit looks as well; the variable is its own.
_SAGEMAKER_BASE, _SAGEMAKER_DIR = "SAGEMAKER_BASE_DIR", "/opt/ml"
_ROUTE = re.compile(r"/[A-Za-z0-9/._:~-]{1,200}")


@dataclass(frozen=True)
class PlatformRoutes:
    """Paths that a platform calls beside Berth's own; empty where there are none.

    `predict` has V1's bodies, `score` those of Azure ML, `health` responds as /readyz.
    """

    predict: str = ""
    health: str = ""
    score: str = ""


def _find_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What the first platform that is recognised sets."""
    if "AIP_HTTP_PORT" in environ or "AIP_PREDICT_ROUTE" in environ:
        return {_PORT: environ.get("AIP_HTTP_PORT", "8080"), _STORE: environ.get("AIP_STORAGE_URI", "")}
    if folder := environ.get("AZUREML_MODEL_DIR"):
        return {_PORT: "5001", _STORE: folder}
    model = Path(environ.get(_SAGEMAKER_BASE, _SAGEMAKER_DIR), "model")
    if model.is_dir():
        return {_PORT: environ.get("SAGEMAKER_BIND_TO_PORT", "8080"), _STORE: str(model)}
    return {}


def _is_empty(store: str) -> bool:
    """Whether a store named by a setting has nothing in it."""
    path = Path(store.removeprefix("file://"))
    return "://" not in str(path) and not (path.exists() and (path.is_file() or any(path.iterdir())))


def with_platform(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with the settings of the platform that runs this container; as it is on no platform."""
    found = {name: value for name, value in _find_settings(environ).items() if value}
    if _PORT in environ or "PORT" in environ:
        found.pop(_PORT, None)
    if _STORE in environ and not _is_empty(environ[_STORE]):
        found.pop(_STORE, None)
    return {**environ, **found} if found else environ


def bucket_of_platform(environ: Mapping[str, str], store: str) -> str:
    """The bucket that the platform names as the model store, to be fetched first; empty where it names none."""
    return store if store.startswith("gs://") and store == environ.get("AIP_STORAGE_URI") else ""


def _read_route(environ: Mapping[str, str], name: str) -> str:
    route = environ.get(name, "")
    if route and _ROUTE.fullmatch(route) is None:
        raise SettingsError(f"{name}={route[:120]!r} must be a path such as /predict, of letters, digits and /._:~-")
    return route.rstrip("/")


def platform_routes(environ: Mapping[str, str]) -> PlatformRoutes:
    """The paths that the platform's variables name. Raises SettingsError."""
    return PlatformRoutes(
        _read_route(environ, "AIP_PREDICT_ROUTE"),
        _read_route(environ, "AIP_HEALTH_ROUTE"),
        "/score" if environ.get("AZUREML_MODEL_DIR") else "",
    )
