"""values.yaml, its schema and its reference: every key in all three and used; unknown keys and wrong types refused."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from helm_chart import BOTH, CHART, HELM, ROOT, Helm, Refused, Values, example_files, overlay, read_values
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = read_values(CHART / "values.yaml")
VALIDATOR = Draft7Validator(SCHEMA)
Path = tuple[Any, ...]

# What belongs to somebody else: the model's own request, Istio's policy, any Kubernetes object, Helm's globals.
OPEN = {("gate", "request"), ("istio", "trafficPolicy"), ("extraObjects",), ("global",)}
# Maps whose keys are the user's: labels, annotations, quantities, variables.
MAPS = {
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "annotations",
    "labels",
    "commonLabels",
    "apiKeys",
    "storeCredentials",
    "requests",
    "limits",
    "matchLabels",
    "metadata",
}


def full_values() -> list[Values]:
    """The defaults, and each example on top of them."""
    return [DEFAULTS, *(overlay(DEFAULTS, read_values(path)) for path in example_files())]


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value with its path."""
    yield path, value
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in inside:
        yield from places(each, (*path, step))


def changed(values: Values, path: Path, value: Any) -> Values:
    """A copy with one value replaced."""
    result: Any = copy.deepcopy(values)
    node = result
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return dict(result)


def is_open(path: Path) -> bool:
    """Whether the schema leaves what lies here to its owner."""
    return any(path[: len(each)] == each for each in OPEN)


def is_map(path: Path) -> bool:
    """Whether the keys here are the user's."""
    return bool(path) and path[-1] in MAPS


def schema_nodes(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every subschema with its path."""
    if isinstance(node, dict):
        yield path, node
    for step, each in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from schema_nodes(each, (*path, step))


def test_schema_is_draft_07_and_takes_the_defaults() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    for values in full_values():
        assert [error.message for error in VALIDATOR.iter_errors(values)] == []


def test_every_object_of_the_schema_is_closed() -> None:
    loose = [
        "/".join(map(str, path))
        for path, node in schema_nodes(SCHEMA)
        if node.get("type") == "object" and "additionalProperties" not in node and "Open: " not in str(node)
    ]
    assert loose == []
    opened = [path for path, node in schema_nodes(SCHEMA) if str(node.get("description", "")).startswith("Open: ")]
    assert len(opened) == len(OPEN)


def test_unknown_keys_are_refused_at_every_depth() -> None:
    accepted = []
    seen = set()
    for values in full_values():
        for path, value in places(values):
            shape = tuple(0 if isinstance(step, int) else step for step in path)
            if isinstance(value, dict) and shape not in seen and not is_open(path) and not is_map(path):
                seen.add(shape)
                if VALIDATOR.is_valid(changed({"": values}, ("", *path, "unknwon"), 1)[""]):
                    accepted.append(path)
    assert accepted == []
    assert len(seen) > 70


WRONG = st.sampled_from([None, True, -1, 2.5, "wrong type!", [], ["x"], {}, {"x": 1}, [{"x": 1}]])
LEAVES = [path for path, value in places(DEFAULTS) if path and not is_open(path)]


def kind_of(value: Any) -> type:
    """The type that JSON Schema sees."""
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


@settings(max_examples=150, deadline=None)
@given(path=st.sampled_from(LEAVES), wrong=WRONG)
def test_wrong_types_are_refused(path: Path, wrong: Any) -> None:
    before = DEFAULTS
    for step in path:
        before = before[step]
    mutated = changed(DEFAULTS, path, wrong)
    if VALIDATOR.is_valid(mutated):
        assert kind_of(wrong) in allowed_kinds(path, before), (path, wrong)


def allowed_kinds(path: Path, before: Any) -> set[type]:
    """The default's own type, and those of keys that take several."""
    several: dict[str, set[type]] = {
        "version": {float, str},
        "mode": {bool},
        "accelerate": {bool},
        "pickle": {bool},
        "payloadLog": {bool},
    }
    quantities = {"cpu", "memory", "size", "scratchSize", "shmSize", "tmpSize"}
    counts = {"maxUnavailable", "maxSurge", "workers", "threads", "cpuThreads", "batchMaxRows", "maxInflight"}
    name = str(path[-1])
    kinds = {kind_of(before)} | several.get(name, set())
    if name in quantities | counts:
        kinds |= {float, str}
    # A null in a map of the user's takes the entry away.
    return kinds | {type(None)} if len(path) > 1 and is_map(path[:-1]) else kinds


@settings(max_examples=100, deadline=None)
@given(
    path=st.sampled_from([path for path, value in places(DEFAULTS) if isinstance(value, dict) and not is_open(path)]),
    key=st.from_regex(r"\A[a-z][A-Za-z]{0,11}\Z"),
)
def test_invented_keys_are_refused(path: Path, key: str) -> None:
    node: Any = DEFAULTS
    for step in path:
        node = node[step]
    if key not in node and not is_map(path) and VALIDATOR.is_valid(changed({"": DEFAULTS}, ("", *path, key), {})[""]):
        # Optional keys that no default shows: a slot's own copies, and Kubernetes' own.
        slot = path[:1] == ("slots",) and key in DEFAULTS["slotDefaults"]
        assert slot or path[-1] in ("behavior", "dnsConfig", "affinity", "resources") or key == "global"


@pytest.mark.parametrize("change", [{"replicsa": 2}, {"slots": {"green": {"model": {"verison": 2}}}}], ids=str)
def test_helm_refuses_unknown_keys_too(helm: Helm, change: Values) -> None:
    assert "additional properties" in helm.refusal(overlay(BOTH, change))


UNSAFE: list[Values] = [
    {"podSecurityContext": {"runAsNonRoot": False}},
    {"podSecurityContext": {"runAsUser": 0}},
    {"podSecurityContext": {"seccompProfile": {"type": "Unconfined"}}},
    {"podSecurityContext": {"sysctls": []}},
    {"containerSecurityContext": {"allowPrivilegeEscalation": True}},
    {"containerSecurityContext": {"privileged": True}},
    {"containerSecurityContext": {"capabilities": {"drop": []}}},
    {"containerSecurityContext": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}},
    {"extraVolumes": [{"name": "host", "hostPath": {"path": "/"}}]},
    {"sidecars": [{"name": "s", "image": "i:1", "securityContext": {"privileged": True}}]},
    {"sidecars": [{"name": "s", "image": "i:1", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
    {"initContainers": [{"name": "s", "image": "i:1", "securityContext": {"runAsUser": 0}}]},
    {"initContainers": [{"name": "s", "image": "i:1", "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}]},
]


@pytest.mark.parametrize("change", UNSAFE, ids=str)
def test_what_a_restricted_namespace_refuses_is_refused_first(change: Values) -> None:
    for place in ({"slotDefaults": change}, {"slots": {"green": change}}):
        assert not VALIDATOR.is_valid(overlay(overlay(DEFAULTS, BOTH), place))


def test_safe_settings_cannot_be_taken_away() -> None:
    for context, key in (
        ("podSecurityContext", "runAsNonRoot"),
        ("podSecurityContext", "seccompProfile"),
        ("containerSecurityContext", "allowPrivilegeEscalation"),
        ("containerSecurityContext", "capabilities"),
    ):
        without = copy.deepcopy(DEFAULTS)
        del without["slotDefaults"][context][key]
        assert not VALIDATOR.is_valid(without)
        assert not VALIDATOR.is_valid(overlay(DEFAULTS, {"slots": {"green": {context: {key: None}}}}))


def keys() -> list[tuple[str, ...]]:
    """Every key of values.yaml, as strings."""
    return [path for path, _ in places(DEFAULTS) if path and all(isinstance(step, str) for step in path)]


def test_every_key_has_its_sentence() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line.strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r" *[A-Za-z]+:", line) and not re.match(r" *# .+[.;…]$", before)
    ]
    assert bare == []


def test_every_key_is_used_by_a_template() -> None:
    """Keys of a map that a template walks or prints whole are used with it."""
    files = (CHART / "templates").glob("*")
    text = "".join(path.read_text() for path in files)
    whole = {"config", "readiness", "liveness", "podSecurityContext", "containerSecurityContext", "secretStoreRef"}
    unused = [
        ".".join(path)
        for path in keys()
        if not whole & set(path[:-1]) and not is_map(path[:-1]) and not re.search(rf'\.{path[-1]}\b|"{path[-1]}"', text)
    ]
    assert unused == []


def test_reference_is_current_and_names_every_key() -> None:
    check = [sys.executable, str(ROOT / "ci" / "generate-readme"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (CHART / "README.md").read_text()
    lines = (CHART / "values.yaml").read_text()
    for path in keys():
        if re.search(rf"(?m)^{'  ' * (len(path) - 1)}{path[-1]}:", lines):
            assert f"`{'.'.join(path)}`" in page or f"### {path[0]}\n" in page


def nulls() -> Iterator[Path]:
    """Every key of a slot, and every key of the chart."""
    for path in keys():
        yield path
        if path[0] == "slotDefaults" and len(path) > 1:
            yield ("slots", "green", *path[1:])


def test_a_null_is_refused_or_leaves_no_trace(helm: Helm) -> None:
    """Helm takes a null out of the defaults before the schema looks; in a slot it arrives as a null."""
    dangerous = []
    for path in nulls():
        merged = copy.deepcopy(overlay(DEFAULTS, BOTH))
        node: Any = merged
        for step in path[:-1]:
            node = node.setdefault(step, {})
        if path[0] == "slots":
            node[path[-1]] = None
        else:
            node.pop(path[-1], None)
        if VALIDATOR.is_valid(merged):
            dangerous.append(path)
    values = BOTH
    for path in dangerous:
        change: Any = None
        for step in reversed(path):
            change = {step: change}
        values = overlay(values, change)
    text = "\n".join(each.text for each in helm.render(values))
    assert dangerous
    assert not re.search(r": *null\b|<nil>|no value", text)


@pytest.mark.skipif(HELM is None, reason="helm is not on PATH")
def test_lint_is_strict() -> None:
    for path in example_files()[:3]:
        command = [str(HELM), "lint", "--strict", str(CHART), "-f", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_defaults_alone_are_refused_for_want_of_a_model(helm: Helm) -> None:
    with pytest.raises(Refused, match=r"set slotDefaults\.model\.name"):
        helm.render({})
