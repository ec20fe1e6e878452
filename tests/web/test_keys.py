"""Keys over HTTP: which routes need one, for which models it is good, and what the log says of it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from berth.web.endpoints import ENDPOINTS
from berth.web.exchange import Endpoint
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


OTHERS = re.compile(r"iris|prices|sepal|length \(cm\)")
BOB = {"X-Api-Key": "two"}


@pytest.fixture(scope="module")
def protected(make_app: MakeApp, store: Path, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """An application behind keys, /metrics too."""
    return make_app(store, api_keys_file=keys_file(tmp_path_factory.mktemp("keys")), protect_metrics=True)


@pytest.fixture(scope="module")
def failing(make_app: MakeApp, store: Path, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """An application behind keys, one of whose models is damaged."""
    folder = tmp_path_factory.mktemp("failing")
    copy = shutil.copytree(store, folder / "store")
    next((copy / "prices" / "1").glob("*.joblib")).write_bytes(b"broken")
    return make_app(copy, api_keys_file=keys_file(folder))


def _ask(client: FlaskClient, endpoint: Endpoint, headers: dict[str, str]) -> str:
    """What a caller reads at an endpoint: headers and body."""
    path = endpoint.path.format(model="people", version="1", name="page.js")
    answer = client.open(path, method=endpoint.method.upper(), json={} if endpoint.body else None, headers=headers)
    assert answer.status_code < 500 or answer.status_code == 503, path
    return f"{answer.headers}{answer.text}"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.id)
def test_a_restricted_key_sees_its_own_models_alone(protected: FlaskClient, endpoint: Endpoint) -> None:
    protected.post("/predict", json=GOOD, headers={"X-Api-Key": "one"})  # so that iris has metrics
    assert not OTHERS.search(_ask(protected, endpoint, BOB))


def test_a_restricted_key_sees_what_it_is_for(protected: FlaskClient) -> None:
    client = protected
    for path in ("/info", "/openapi.json", "/v2/models", "/v1/models", "/health", "/", "/metrics", "/v2/models/people"):
        assert "people" in client.get(path, headers=BOB).text, path
        assert "people" in client.get(path, headers={"X-Api-Key": "one"}).text, path
    assert 'berth_model_ready{model="iris"' in client.get("/metrics", headers={"X-Api-Key": "one"}).text
    index = client.post("/v2/repository/index", json={}, headers=BOB).json
    assert index
    assert {entry["name"] for entry in index} == {"people"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/roses", 404),
        ("/v2/models/roses/infer", 404),
        ("/v1/models/roses:predict", 404),
        ("/v2/models/people/versions/9", 404),
        ("/predict", 403),
        ("/invocations", 403),
    ],
)
def test_errors_name_no_other_model(guarded: FlaskClient, path: str, status: int) -> None:
    post = path.endswith(("infer", "predict", "invocations"))
    body = GOOD if path == "/predict" else {"instances": [GOOD["features"]]}
    answer = guarded.open(path, method="POST" if post else "GET", json=body if post else None, headers=BOB)
    assert answer.status_code == status, answer.text
    assert not OTHERS.search(answer.text)
    assert "people" in answer.text


@pytest.mark.parametrize("path", [*PROBES, "/"])
@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "wrong"}, BOB], ids=["none", "wrong", "restricted"])
def test_without_a_key_no_model_is_named(failing: FlaskClient, path: str, headers: dict[str, str]) -> None:
    answer = failing.get(path, headers=headers)
    assert answer.status_code == (200 if path in ("/", "/livez", "/v2/health/live") else 503)
    assert not OTHERS.search(answer.text)
    assert "joblib" not in answer.text
    assert ("people" in answer.text) == (headers == BOB and path in ("/", "/health"))
    whole = failing.get("/health", headers={"X-Api-Key": "one"})
    assert "prices@1 failed" in whole.text
