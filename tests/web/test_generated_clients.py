"""Clients that generators make of /openapi.json: each of their functions calls the server.

A generator is used where it is on PATH: openapi-python-client of PyPI, openapi-typescript (and tsc) of npm.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from berth.web.endpoints import ENDPOINTS
from berth.web.exchange import JSON, Endpoint

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
