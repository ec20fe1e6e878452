"""GET / and /docs: pages without model data in them, and a list for clients that read JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TypeAlias

import pytest
from flask.testing import FlaskClient

from berth.web.auth import encode_key

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
STATIC = resources.files("berth") / "web" / "static"
FILES = sorted(file.name for file in STATIC.iterdir() if file.name != "shell.html")

MakeApp: TypeAlias = Callable[..., FlaskClient]
SERVED = "iris@1,iris@2,people,prices"


def test_a_browser_gets_the_page(client: FlaskClient) -> None:
    answer = client.get("/", headers=HTML)
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert "Accept" in answer.vary
    assert b"<!doctype html>" in answer.data


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.1", ""])
def test_other_clients_get_routes_and_models(client: FlaskClient, accept: str) -> None:
    answer = client.get("/", headers={"Accept": accept})
    assert answer.mimetype == "application/json"
    listing = json.loads(answer.data)
    assert listing["status"] == "alive"
    assert {"method": "POST", "path": "/predict"}.items() <= listing["routes"][0].items()
    assert [f"{model['name']}@{model['version']}" for model in listing["models"]] == [
        "iris@1",
        "iris@2",
        "people@1",
        "prices@1",
    ]
    assert {model["state"] for model in listing["models"]} == {"ready"}


@pytest.mark.parametrize("path", ["/", "/docs", *(f"/static/{name}" for name in FILES)])
def test_pages_are_strict(client: FlaskClient, path: str) -> None:
    answer = client.get(path, headers=HTML)
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", FILES)
def test_files_need_nothing_from_elsewhere(name: str) -> None:
    text = (STATIC / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


@pytest.mark.parametrize("path", ["/", "/docs", "/drift"])
def test_pages_share_a_shell(client: FlaskClient, path: str) -> None:
    text = client.get(path, headers=HTML).text
    assert text.count("<main") == text.count('<nav aria-label="Server">') == text.count("</html>") == 1
    assert re.findall(r'href="([^"]+)" aria-current="page"', text) == [path.removeprefix("/") or "./"]
    assert "$" not in text
    skip = re.search(r'class="skip" href="#(\w+)"', text)
    assert skip is not None
    assert f'id="{skip[1]}"' in text


@pytest.mark.parametrize("path", ["/", "/docs", "/drift"])
def test_pages_have_no_script_and_no_style_inside(client: FlaskClient, path: str) -> None:
    text = client.get(path, headers=HTML).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    for reference in re.findall(r'(?:src|href)="(static/[^"]+)"', text):
        assert (STATIC / reference.removeprefix("static/")).is_file()


def test_an_unchanged_file_is_not_sent_again(client: FlaskClient) -> None:
    first = client.get("/static/berth.css")
    again = client.get("/static/berth.css", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "%2e%2e", "../console.py"])
def test_only_the_package_s_files_are_there(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 404
    assert json.loads(answer.data)["code"] == "not_found"


def test_pages_need_no_key_and_tell_nothing(make_app: MakeApp, store: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ann:{encode_key('secret')}\n", "utf-8")
    client = make_app(store, models=SERVED, api_keys_file=keys)
    for path in ("/", "/docs", *(f"/static/{name}" for name in FILES)):
        answer = client.get(path, headers=HTML)
        assert answer.status_code == 200
        assert not re.search(rb"iris|people|prices|sepal", answer.data)
    for path in ("/info", "/openapi.json", "/predict", "/v2/models"):
        assert client.get(path).status_code == 401


def test_info_tells_what_the_page_needs(client: FlaskClient) -> None:
    iris, _, people, _ = json.loads(client.get("/info").data)["models"]
    assert iris["inputs"][0]["columns"][0] == "sepal length (cm)"
    assert iris["outputs"][1]["labels"] == [0, 1, 2]
    assert client.post("/predict", json=iris["example"]).status_code == 200
    assert client.post("/predict", json={"model": "people", **people["example"]}).status_code == 200


def test_drift_is_a_page_to_a_browser_only(make_app: MakeApp, store: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ann:{encode_key('secret')}\n", "utf-8")
    client = make_app(store, models=SERVED, api_keys_file=keys)
    page = client.get("/drift", headers=HTML)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "Accept" in page.vary
    assert b"sepal" not in page.data
    assert client.get("/drift").status_code == 401
    answer = client.get("/drift", headers={"X-Api-Key": "secret", "Accept": "application/json"})
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert "Accept" in answer.vary
