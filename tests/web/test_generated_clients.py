"""Clients that generators make of /openapi.json: each of their functions calls the server.

A generator is used where it is on PATH: openapi-python-client of PyPI, openapi-typescript (and tsc) of npm.
openapi-generator, a Java program, is installed from PyPI together with a Java for it.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import threading
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from berth.web.endpoints import ENDPOINTS
from berth.web.exchange import JSON, Endpoint
from other_venv import other_venv

_ARGUMENTS = {"model": "iris", "version": "1", "name": "page.js"}


def _find(command: str, package: str) -> str:
    if (found := shutil.which(command)) is None:
        pytest.skip(f"{command} is not on PATH; {package} installs it")
    return found


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told


@pytest.fixture
def document(client: FlaskClient, tmp_path: Path) -> Path:
    """The document of a server with every kind of table."""
    file = tmp_path / "openapi.json"
    file.write_bytes(client.get("/openapi.json").data)
    return file


def _examples(document: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    body = document["paths"][endpoint.path][endpoint.method].get("requestBody", {})
    return body.get("content", {}).get(JSON, {}).get("examples", {})  # type: ignore[no-any-return]


def _bodies(kinds: tuple[type, ...], value: Any) -> Iterator[Any]:
    """The value as every generated class that holds all of it."""
    for kind in kinds:
        try:
            made = kind.from_dict(value)  # type: ignore[attr-defined]
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        if made.to_dict() == value:
            yield made


def _arguments(function: Any, document: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    hints = typing.get_type_hints(function)
    arguments = {name: hints[name](value) for name, value in _ARGUMENTS.items() if name in hints}
    if examples := _examples(document, endpoint):
        value = examples["iris@1"]["value"]
        arguments["body"] = next(_bodies(typing.get_args(hints["body"]) or (hints["body"],), value))
    return arguments


@pytest.mark.slow
def test_openapi_python_client(
    client: FlaskClient, document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = _find("openapi-python-client", "pip install openapi-python-client")
    made = tmp_path / "generated_berth"
    told = _run(generator, "generate", "--path", document, "--output-path", made, "--meta", "none")
    assert "will not be generated" not in told
    monkeypatch.syspath_prepend(str(tmp_path))
    generated = importlib.import_module("generated_berth")
    transport = httpx.WSGITransport(app=client.application)
    caller = generated.Client(base_url="http://berth", httpx_args={"transport": transport})
    described = json.loads(document.read_text("utf-8"))
    for endpoint in ENDPOINTS:
        module = importlib.import_module(f"generated_berth.api.{endpoint.tag}.{endpoint.id}")
        answer = module.sync_detailed(**_arguments(module.sync_detailed, described, endpoint), client=caller)
        assert answer.status_code == 200, (endpoint.path, answer.content)
        if endpoint.media == JSON:
            assert answer.parsed is not None, endpoint.path


@pytest.mark.slow
def test_openapi_typescript(document: Path, tmp_path: Path) -> None:
    types = tmp_path / "berth.ts"
    _run(_find("openapi-typescript", "npm install openapi-typescript"), document, "-o", types)
    text = types.read_text("utf-8")
    assert [endpoint.path for endpoint in ENDPOINTS if f'"{endpoint.path}"' not in text] == []
    body = 'paths["/predict"]["post"]["requestBody"]["content"]["application/json"]'
    (tmp_path / "use.ts").write_text(
        f'import type {{ paths }} from "./berth";\n'
        f"const body: {body} = {{ features: [5.1, 3.5, 1.4, 0.2] }};\n"
        f'const more: {body} = {{ features: [[5.1, 3.5, 1.4, 0.2]], outputs: ["probabilities"] }};\n'
        "export { body, more };\n",
        "utf-8",
    )
    compiler = _find("tsc", "npm install typescript")
    _run(compiler, "--noEmit", "--strict", "--skipLibCheck", tmp_path / "use.ts")


@contextmanager
def _listening(app: Flask) -> Iterator[str]:
    """The URL of the application, for a client in another process."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _calls(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for endpoint in ENDPOINTS:
        arguments = {name: value for name, value in _ARGUMENTS.items() if f"{{{name}}}" in endpoint.path}
        example = _examples(document, endpoint).get("iris@1", {"value": None})["value"]
        yield {"tag": endpoint.tag, "id": endpoint.id, "arguments": arguments, "body": example}


@pytest.mark.slow
def test_openapi_generator(client: FlaskClient, document: Path, tmp_path: Path) -> None:
    programs = other_venv("openapi-generator", Path(__file__).parents[1] / "venvs" / "openapi-generator.txt")
    python, made, calls = programs / "python", tmp_path / "made", tmp_path / "calls.json"
    options = ("-g", "python", "--package-name", "generated_berth")
    _run(programs / "openapi-generator-cli", "generate", "-i", document, "-o", made, *options)
    calls.write_text(json.dumps(list(_calls(json.loads(document.read_text("utf-8"))))), "utf-8")
    with _listening(client.application) as url:
        told = _run(python, Path(__file__).parent / "call_generated.py", made, url, calls)
    answers = {answer["id"]: answer for answer in json.loads(told)}
    assert [answer for answer in answers.values() if answer["status"] != 200] == []
    assert answers.keys() == {endpoint.id for endpoint in ENDPOINTS}
    assert answers["predict"]["value"]["prediction"] == [0]
    assert answers["v2_infer"]["value"]["outputs"][0]["data"] == [0]
