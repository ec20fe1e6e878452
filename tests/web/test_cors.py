"""Pages of other origins: what BERTH_CORS_ORIGINS lets them do, on every way in."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from berth.errors import SettingsError
from berth.settings import parse_settings
from berth.web.auth import encode_key
from berth.web.endpoints import ENDPOINTS
from web.asking import MakeApp, told
from web.ways import WAYS, Case, compare

APP, OTHER = "https://app.example.com", "https://evil.example"
ALLOWED = f"{APP}, http://localhost:3000"
GOOD = {"features": [5.1, 3.5, 1.4, 0.2]}
ALLOW = "Access-Control-Allow-Origin"
PREDICTIONS = [endpoint.path.format(model="iris", version="1", name="x") for endpoint in ENDPOINTS if endpoint.protocol]


@pytest.fixture(scope="module")
def shared(make_app: MakeApp, store: Path) -> FlaskClient:
    """An application that some origins may call."""
    return make_app(store, models="iris@1", cors_origins=ALLOWED, batch_max_rows=1)


def ask(origin: str, headers: str = "content-type,x-api-key") -> dict[str, str]:
    """The fields of a browser's question."""
    fields = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return fields | ({"Access-Control-Request-Headers": headers} if headers else {})


@pytest.mark.parametrize("path", [*PREDICTIONS, "/feedback", "/info"])
def test_a_preflight_of_an_allowed_page(shared: FlaskClient, path: str) -> None:
    answer = shared.options(path, headers=ask(APP))
    assert answer.status_code == 200
    assert answer.headers[ALLOW] == APP
    assert ("GET" if path == "/info" else "POST") in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type,x-api-key"
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "Origin" in answer.vary


@pytest.mark.parametrize("headers", ["", "two words", "a,\u00fc"])
def test_no_other_text_is_repeated(shared: FlaskClient, headers: str) -> None:
    answer = shared.options("/predict", headers=ask(APP, headers))
    assert answer.headers[ALLOW] == APP
    assert "Access-Control-Allow-Headers" not in answer.headers


@pytest.mark.parametrize("origin", [OTHER, "null", f"{APP}.evil.example", f"{APP}:8443", "http://app.example.com"])
def test_other_pages_may_not(shared: FlaskClient, origin: str) -> None:
    for answer in (
        shared.options("/predict", headers=ask(origin)),
        shared.post("/predict", json=GOOD, headers={"Origin": origin}),
    ):
        assert not [name for name in dict(answer.headers) if name.startswith("Access-Control")]
        assert "Origin" in answer.vary


def test_every_response_says_so(shared: FlaskClient) -> None:
    for answer in (
        shared.post("/predict", json=GOOD, headers={"Origin": APP.upper()}),
        shared.post("/predict", json={}, headers={"Origin": APP.upper()}),
        shared.get("/nowhere", headers={"Origin": APP.upper()}),
        shared.get("/readyz", headers={"Origin": APP.upper()}),
    ):
        assert answer.headers[ALLOW] == APP.upper()
        assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]


def test_any_origin(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, models="iris@1", cors_origins="*")
    answer = client.post("/predict", json=GOOD, headers={"Origin": OTHER})
    assert told(answer)["prediction"] == [0]
    assert answer.headers[ALLOW] == "*"
    assert "Vary" not in answer.headers


def test_off_by_default(client: FlaskClient) -> None:
    for answer in (
        client.options("/predict", headers=ask(APP)),
        client.post("/predict", json=GOOD, headers={"Origin": APP}),
    ):
        assert not [name for name in dict(answer.headers) if name.startswith("Access-Control")]
        assert "Vary" not in answer.headers


def test_a_preflight_needs_no_key_and_what_follows_does(make_app: MakeApp, store: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ann:{encode_key('secret')}\n", "utf-8")
    client = make_app(store, models="iris@1", api_keys_file=keys, cors_origins=APP)
    assert client.options("/predict", headers=ask(APP)).status_code == 200
    for refused in (
        client.options("/predict", headers=ask(OTHER)),
        client.options("/predict", headers={"Origin": APP}),
        client.post("/predict", json=GOOD, headers={"Origin": APP}),
    ):
        assert refused.status_code == 401
    answer = client.post("/predict", json=GOOD, headers={"Origin": APP, "X-Api-Key": "secret"})
    assert told(answer)["prediction"] == [0]


def test_every_way_in_says_the_same(make_app: MakeApp, store: Path) -> None:
    clients = [make_app(store, models="iris@1", cors_origins=ALLOWED, batch_max_rows=1) for _ in WAYS]
    cases = [Case("/predict", GOOD, 200, {"Origin": origin}) for origin in (APP, OTHER)]
    compare(clients, [*cases, Case("/predict", GOOD), Case("/predict", {}, 400, {"Origin": APP})])


@pytest.mark.parametrize("text", ["https://app.example.com/", "app.example.com", "https://a b", "*, x", "https://a@b"])
def test_what_is_no_origin_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="without a path"):
        parse_settings({"BERTH_CORS_ORIGINS": text})
