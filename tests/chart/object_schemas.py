"""Strict schemas of what the chart renders: Kubernetes' own for the newest minors, and a table for other projects'."""

from __future__ import annotations

import functools
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

Schema = dict[str, Any]
MINORS = 5


@functools.cache
def minors() -> list[str]:
    """The newest Kubernetes minors that kubernetes-validate knows, oldest first."""
    names = [entry.name for entry in files("kubernetes_validate").joinpath("kubernetes-json-schema").iterdir()]
    versions = {name.removeprefix("v").split(".0-")[0] for name in names if name.endswith("-local-strict")}
    return sorted(versions, key=lambda version: [int(part) for part in version.split(".")])[-MINORS:]


@functools.cache
def definitions(minor: str) -> Schema:
    """Every strict definition of one Kubernetes minor, without its prose."""
    path = f"kubernetes-json-schema/v{minor}.0-local-strict/_definitions.json"
    text = files("kubernetes_validate").joinpath(path).read_text()

    def bare(pairs: list[tuple[str, Any]]) -> Schema:
        return {key: value for key, value in pairs if key != "description" or not isinstance(value, str)}

    found: Schema = json.loads(text, object_pairs_hook=bare)
    return dict(found["$defs"])


def closure(name: str, minor: str) -> Schema:
    """A definition and all that it refers to."""
    found: Schema = {}
    todo = [name]
    while todo:
        each = todo.pop()
        if each not in found:
            found[each] = definitions(minor)[each]
            todo += [ref.split('"')[0] for ref in json.dumps(found[each]).split("#/$defs/")[1:]]
    return found


@functools.cache
def definition_name(api_version: str, kind: str, minor: str) -> str | None:
    """The name of the definition for a kind, if Kubernetes has it."""
    group, _, version = api_version.rpartition("/")
    wanted = {"group": group, "kind": kind, "version": version}
    for name, schema in definitions(minor).items():
        if wanted in schema.get("x-kubernetes-group-version-kind", []):
            return name
    return None


@functools.cache
def validator(api_version: str, kind: str, minor: str) -> tuple[str, Draft202012Validator] | None:
    """A validator, and the digest of what it knows: equal digests of two minors need one look."""
    name = definition_name(api_version, kind, minor)
    if name is None:
        return None
    parts = closure(name, minor)
    text = json.dumps(parts, sort_keys=True).replace("_definitions.json#", "#").replace("/api/#", "#")
    schema = {"$ref": f"#/$defs/{name}", "$defs": json.loads(text)}
    return hashlib.sha256(text.encode()).hexdigest(), Draft202012Validator(schema)


def expand(field: Any) -> Schema:
    """The schema for one entry of crd-fields.yaml."""
    if field == "any":
        return {}
    if isinstance(field, str):
        return {"type": field}
    if isinstance(field, list):
        return {"type": "array", "items": expand(field[0])}
    if "*" in field:
        return {"type": "object", "additionalProperties": expand(field["*"])}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [key[:-1] for key in field if key.endswith("!")],
        "properties": {key.removesuffix("!"): expand(each) for key, each in field.items()},
    }


@functools.cache
def other_schemas() -> dict[str, Draft202012Validator]:
    """Validators for other projects' specs by `apiVersion kind`."""
    table = yaml.safe_load(Path(__file__).with_name("crd-fields.yaml").read_text())
    return {name: Draft202012Validator(expand(fields)) for name, fields in table.items()}


@functools.cache
def _problems(text: str) -> tuple[str, ...]:
    rendered = json.loads(text)
    api_version, kind = rendered["apiVersion"], rendered["kind"]
    other = other_schemas().get(f"{api_version} {kind}")
    if other is not None:
        return tuple(f"{error.json_path}: {error.message}" for error in other.iter_errors(rendered["spec"]))
    looked: dict[str, tuple[str, ...]] = {}
    for minor in minors():
        found = validator(api_version, kind, minor)
        if found is None:
            return (f"Kubernetes {minor} has no {api_version} {kind}",)
        digest, check = found
        if digest not in looked:
            errors = check.iter_errors(rendered)
            looked[digest] = tuple(f"{minor} {error.json_path}: {error.message}" for error in errors)
    return tuple(problem for problems in looked.values() for problem in problems)


def problems(rendered: dict[str, Any]) -> tuple[str, ...]:
    """What the strict schemas of the newest minors have against an object."""
    return _problems(json.dumps(rendered, sort_keys=True))
