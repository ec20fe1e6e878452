"""The OpenAPI document: it is one, it says what there is, and what it offers to send works."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import schemathesis
from click.testing import CliRunner
from flask.testing import FlaskClient

from berth.cli.main import berth
from berth.models.model import Model
from berth.tensors.arrays import DATATYPES, TensorSpec
from berth.web.auth import encode_key
from berth.web.endpoints import ENDPOINTS
from berth.web.exchange import ApiFacts
from berth.web.openapi.bodies import BODIES
from berth.web.openapi.document import openapi_document

MakeApp: TypeAlias = Callable[..., FlaskClient]
SERVED = "iris@1,iris@2,people,prices"


@pytest.fixture(scope="module")
def document(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.get("/openapi.json").data)
    return found


def _examples(document: dict[str, Any]) -> list[tuple[str, str, str, Any]]:
    """(path, media type, example's name, value) of every example there is."""
    return [
        (path, media, name, example["value"])
        for path, methods in document["paths"].items()
        for operation in methods.values()
        for media, content in operation.get("requestBody", {}).get("content", {}).items()
        for name, example in content.get("examples", {}).items()
    ]


def _unnamed(path: str) -> str:
    return re.sub(r"<[^>]+>|\{[^}]+\}", "{}", path)


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()


@pytest.mark.parametrize("secured", [False, True])
def test_it_is_openapi_3_1_without_any_model(secured: bool) -> None:
    document = openapi_document([], ApiFacts("1", secured), ENDPOINTS)
    schemathesis.openapi.from_dict(document).validate()
    assert ("securitySchemes" in document["components"]) == secured


def test_it_has_every_route_and_no_other(client: FlaskClient, document: dict[str, Any]) -> None:
    rules = client.application.url_map.iter_rules()
    there = {(method.lower(), _unnamed(rule.rule)) for rule in rules for method in rule.methods or ()}
    told = {(method, _unnamed(path)) for path, methods in document["paths"].items() for method in methods}
    assert told == {(method, path) for method, path in there if method not in ("head", "options")}


def test_every_reference_has_its_end(document: dict[str, Any]) -> None:
    for reference in re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(document)):
        found = document
        for step in reference.split("/"):
            found = found[step]


def test_every_operation_has_a_name_of_its_own() -> None:
    assert len({endpoint.id for endpoint in ENDPOINTS}) == len(ENDPOINTS)


def test_every_served_version_has_an_example_on_each_route_that_takes_models(document: dict[str, Any]) -> None:
    names = {"iris@1", "iris@2", "people@1", "prices@1"}
    found: dict[str, set[str]] = {}
    for path, media, name, _ in _examples(document):
        if media == "application/json":
            found.setdefault(path, set()).add(name)
    assert found.pop("/invocations") == {"iris@1"}
    assert set(found) == {
        "/predict",
        "/feedback",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}/infer",
        "/v1/models/{model}:predict",
        "/v1/models/{model}/versions/{version}:predict",
    }
    assert all(there == names for there in found.values())


def _post_examples(client: FlaskClient) -> int:
    sent = 0
    for path, media, name, value in _examples(json.loads(client.get("/openapi.json").data)):
        model, version = name.split("@")
        url = path.replace("{model}", model).replace("{version}", version)
        if "{version}" not in path and "{model}" in path:
            continue  # the version that the path does not name may take something else
        body = value if isinstance(value, str) else json.dumps(value)
        answer = client.post(url, data=body, content_type=media)
        assert answer.status_code == 200, (path, name, answer.text)
        sent += 1
    return sent


def test_every_example_works(client: FlaskClient) -> None:
    assert _post_examples(client) >= 14


def test_every_example_works_for_each_datatype(echo_client: FlaskClient) -> None:
    assert _post_examples(echo_client) >= 4


@pytest.mark.parametrize("default", ["iris@1", "people@1", "prices@1"])
def test_examples_work_whatever_the_default_is(make_app: MakeApp, store: Path, default: str) -> None:
    client = make_app(store, models=default)
    for path, media, _, value in _examples(json.loads(client.get("/openapi.json").data)):
        url = path.replace("{model}", default.split("@")[0]).replace("{version}", "1")
        body = value if isinstance(value, str) else json.dumps(value)
        assert client.post(url, data=body, content_type=media).status_code == 200, (path, media)


def test_examples_obey_their_own_schemas(document: dict[str, Any]) -> None:
    import jsonschema

    for path, media, name, value in _examples(document):
        schema = document["paths"][path]["post"]["requestBody"]["content"][media]["schema"]
        schema = {**schema, "components": document["components"]}
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(value))
        assert not errors, (path, media, name, errors[0].message)


def test_a_model_with_columns_takes_records_of_just_those(document: dict[str, Any]) -> None:
    record = document["components"]["schemas"]["people-1-record"]
    assert record["required"] == ["age", "city", "member"]
    assert record["additionalProperties"] is False
    assert record["properties"]["city"]["type"] == ["string", "null"]


def test_the_default_needs_no_name_and_a_later_version_needs_both(document: dict[str, Any]) -> None:
    examples = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples["iris@1"]["value"]) == {"features"}
    assert examples["iris@2"]["value"]["version"] == "2"
    assert examples["people@1"]["value"]["model"] == "people"
    assert "version" not in examples["people@1"]["value"]


def test_every_code_is_told(document: dict[str, Any]) -> None:
    codes = document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]
    assert {"invalid_input", "method_not_allowed", "overloaded", "deadline_exceeded", "internal_error"} <= set(codes)
    assert "settings_error" not in codes


def test_keys_are_told_of_when_they_are_on(make_app: MakeApp, store: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ann:{encode_key('secret')}\n", "utf-8")
    client = make_app(store, models=SERVED, api_keys_file=keys)
    assert client.get("/openapi.json").status_code == 401
    document = json.loads(client.get("/openapi.json", headers={"X-Api-Key": "secret"}).data)
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            url = path.replace("{model}", "iris").replace("{version}", "1").replace("{name}", "page.js")
            status = client.open(url, method=method.upper()).status_code
            assert (status == 401) == bool(operation["security"]) == ("401" in operation["responses"]), path


def test_no_keys_no_security(document: dict[str, Any]) -> None:
    assert "securitySchemes" not in document["components"]
    assert "401" not in json.dumps(document["paths"])


def test_the_document_grows_with_the_models(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, models=SERVED, start=False)
    before = json.loads(client.get("/openapi.json").data)
    assert not _examples(before)
    client.application.extensions["berth"].start()
    assert client.application.extensions["berth"].catalog.wait(20)
    assert _examples(json.loads(client.get("/openapi.json").data))


def test_any_signature_can_be_described() -> None:
    specs = [
        TensorSpec("x", datatype, shape) for datatype in DATATYPES for shape in [(-1,), (-1, 0), (-1, 3, -1), (2, 2)]
    ]
    for spec in specs:
        model = Model("m", "1", "onnx", "0" * 64, (spec,), (spec,), lambda tensors, outputs: {})
        document = openapi_document([model], ApiFacts("1"), ENDPOINTS)
        schemathesis.openapi.from_dict(document).validate()
        assert all(make([model]) for make in BODIES.values())


def test_the_command_prints_what_the_server_gives(client: FlaskClient, store: Path) -> None:
    told = CliRunner().invoke(berth, ["openapi", "--store", str(store), "--models", SERVED])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == json.loads(client.get("/openapi.json").data)
