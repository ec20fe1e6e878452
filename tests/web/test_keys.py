"""Keys over HTTP: which routes need one, for which models it is good, and what the log says of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from web.asking import MakeApp

GOOD = {"features": [5.1, 3.5, 1.4, 0.2]}
ROUTES = [
    ("POST", "/predict", GOOD),
    ("GET", "/v2", None),
    ("GET", "/v2/models", None),
    ("GET", "/v2/models/iris", None),
    ("GET", "/v2/models/iris/ready", None),
    ("POST", "/v2/models/iris/infer", {}),
    ("POST", "/v2/repository/index", {}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/iris", None),
    ("POST", "/v1/models/iris:predict", {"instances": [GOOD["features"]]}),
    ("POST", "/invocations", {"instances": [GOOD["features"]]}),
    ("GET", "/version", None),
    ("GET", "/info", None),
    ("GET", "/openapi.json", None),
    ("GET", "/nowhere", None),
]
PROBES = ["/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"]


def keys_file(folder: Path) -> Path:
    """alice may use everything, bob the model people."""
    digests = {key: hashlib.sha256(key.encode()).hexdigest() for key in ("one", "two")}
    (folder / "keys").write_text(f"alice:{digests['one']}\nbob:{digests['two']}:people\n")
    return folder / "keys"


@pytest.fixture(scope="module")
def guarded(make_app: MakeApp, store: Path, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """An application behind keys."""
    return make_app(store, api_keys_file=keys_file(tmp_path_factory.mktemp("keys")))


@pytest.mark.parametrize(("method", "path", "document"), ROUTES)
def test_every_route_but_probes_needs_a_key(guarded: FlaskClient, method: str, path: str, document: Any) -> None:
    for headers in ({}, {"X-Api-Key": "three"}, {"Authorization": "Basic b25lOm9uZQ=="}):
        answer = guarded.open(path, method=method, json=document, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json is not None
        assert answer.json["code"] == "unauthenticated"
    answer = guarded.open(path, method=method, json=document, headers={"Authorization": "Bearer one"})
    assert answer.status_code not in (401, 403)


@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_key(guarded: FlaskClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_metrics_need_a_key_only_by_setting(
    guarded: FlaskClient, make_app: MakeApp, store: Path, tmp_path: Path
) -> None:
    assert guarded.get("/metrics").status_code == 200
    protected = make_app(store, api_keys_file=keys_file(tmp_path), protect_metrics=True)
    assert protected.get("/metrics").status_code == 401
    assert protected.get("/metrics", headers={"X-Api-Key": "one"}).status_code == 200


@pytest.mark.parametrize(("method", "path", "document"), [route for route in ROUTES if "iris" in route[1]])
def test_a_key_for_another_model(guarded: FlaskClient, method: str, path: str, document: Any) -> None:
    answer = guarded.open(path, method=method, json=document, headers={"X-Api-Key": "two"})
    assert (answer.status_code, answer.json and answer.json["code"]) == (403, "forbidden")


def test_the_keys_name_is_logged_and_the_key_never(
    make_app: MakeApp, store: Path, tmp_path: Path, capfd: Any, read_log: Any
) -> None:
    client = make_app(store, api_keys_file=keys_file(tmp_path), log_level="info")
    capfd.readouterr()
    client.post("/predict", json=GOOD, headers={"X-Api-Key": "one"})
    client.post("/predict", json=GOOD, headers={"Authorization": "Bearer my-own-secret"})
    text = capfd.readouterr().out
    assert [json.loads(line)["key"] for line in text.splitlines()] == ["alice", ""]
    assert '"one"' not in text
    assert "my-own-secret" not in text
