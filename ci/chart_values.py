"""The values of the chart as Markdown, from the comments of chart/values.yaml and its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):(?: |$)")
COMMENT = re.compile(r"^ *# ?(.*)$")


@dataclass(frozen=True)
class Key:
    """One key of values.yaml: where it stands and what its comment says."""

    path: tuple[str, ...]
    comment: str


def read_keys(text: str) -> Iterator[Key]:
    """Every key that has a line of its own, with the comment right above it."""
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := COMMENT.match(line):
            comment.append(found[1])
        elif found := KEY.match(line):
            depth = len(found[1]) // 2
            path = [*path[:depth], found[2]]
            yield Key(tuple(path), " ".join(comment))
            comment = []
        else:
            comment = []


def value_at(values: Any, path: tuple[str, ...]) -> Any:
    """The default under a path."""
    for step in path:
        values = values[step]
    return values


def type_at(schema: Any, path: tuple[str, ...]) -> str:
    """What the schema accepts under a path, in a word or two."""
    node = schema
    for step in path:
        node = next(part["properties"][step] for part in parts(node, schema) if step in part.get("properties", {}))
    return describe(node, schema)


def describe(node: Any, schema: Any) -> str:
    """What a schema node accepts."""
    for part in parts(node, schema):
        if "const" in part:
            return json.dumps(part["const"]).strip('"') or "empty"
        if "enum" in part:
            return ", ".join(str(each) or "empty" for each in part["enum"] if not isinstance(each, bool))
        if "anyOf" in part:
            return " or ".join(dict.fromkeys(describe(each, schema) for each in part["anyOf"]))
        if "type" in part:
            return str(part["type"]) if isinstance(part["type"], str) else " or ".join(part["type"])
    return "any"


def parts(node: Any, schema: Any) -> Iterator[Any]:
    """A schema node, the nodes it refers to, and the parts it is made of."""
    if "$ref" in node:
        node = schema["definitions"][node["$ref"].rsplit("/", 1)[1]]
    yield node
    for each in node.get("allOf", []):
        yield from parts(each, schema)


def values_reference(chart: Path) -> str:
    """A heading for each key at the top, and a table of the keys below it."""
    text, schema = (chart / "values.yaml").read_text(), json.loads((chart / "values.schema.json").read_text())
    values, lines = yaml.safe_load(text), []
    for key, following in pairwise([*read_keys(text), Key((), "")]):
        opens = len(following.path) > len(key.path)
        default = "" if opens else f"`{json.dumps(value_at(values, key.path), ensure_ascii=False)}`"
        if len(key.path) > 1:
            lines.append(f"| `{'.'.join(key.path)}` | {type_at(schema, key.path)} | {default} | {key.comment} |")
            continue
        lines += ["", f"### {key.path[0]}", "", key.comment]
        lines += ["", "| key | type | default | |", "|---|---|---|---|"] if opens else [f"Default: {default}."]
    return "\n".join(lines)
