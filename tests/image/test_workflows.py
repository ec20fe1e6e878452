"""The workflows' manners: pinned, with the least rights, and nothing in them that is not in ci/."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image.scripts import ROOT, load_script

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / ".github" / "actions" / "setup" / "action.yml"
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    return {("on" if key is True else key): value for key, value in yaml.safe_load(path.read_text("utf-8")).items()}


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    if path == ACTION:
        yield from read(path)["runs"]["steps"]
        return
    for job in jobs(path).values():
        yield from job.get("steps", [])


def test_every_workflow_of_the_contract_is_there() -> None:
    assert {path.stem for path in FILES} >= {"ci", "chart", "image", "release", "deploy", "model", "scorecard"}
    assert (ROOT / ".github" / "dependabot.yml").exists()


@each_file
def test_no_right_is_given_to_a_whole_workflow(path: Path) -> None:
    assert read(path)["permissions"] == {}
    for name, job in jobs(path).items():
        assert "permissions" in job, name
        assert "uses" in job or job["timeout-minutes"] <= 120, name
        assert set(job["permissions"].values()) <= {"read", "write"}, name


@each_file
def test_two_runs_do_not_meet(path: Path) -> None:
    workflow = read(path)
    if set(workflow["on"]) == {"workflow_call"}:
        return  # its callers' groups hold for it
    assert "group" in workflow["concurrency"]
    if path.stem in ("deploy", "release", "image", "model"):
        assert workflow["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize("path", [*FILES, ACTION], ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_tell_their_version(path: Path) -> None:
    for line in path.read_text("utf-8").splitlines():
        if (found := re.search(r"\buses: (\S+)(.*)$", line)) and not found[1].startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", found[1]), line
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", found[2]), line


def test_one_action_has_one_pin() -> None:
    pins = {found for path in [*FILES, ACTION] for found in re.findall(r"uses: (\S+)@(\S+)", path.read_text("utf-8"))}
    assert len({name for name, _ in pins}) == len(pins), sorted(pins)


@pytest.mark.parametrize("path", [*FILES, ACTION], ids=lambda path: path.stem)
def test_no_expression_becomes_part_of_a_script(path: Path) -> None:
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step


def inputs(path: Path) -> set[str]:
    """The names of a workflow's inputs that are text, however it is started."""
    starts = [start for start in read(path)["on"].values() if start] if isinstance(read(path)["on"], dict) else []
    found = {name: each for start in starts if "inputs" in start for name, each in start["inputs"].items()}
    return {name for name, each in found.items() if each["type"] == "string"}


def test_some_workflows_take_text() -> None:
    assert {path.stem for path in FILES if inputs(path)} == {"build", "deploy", "model"}


@each_file
def test_inputs_are_checked_before_anything_uses_them(path: Path) -> None:
    """In the first step of the first job, which the others wait for; scripts see them as variables alone."""
    if not (wanted := inputs(path)):
        return
    first, *others = jobs(path).values()
    assert all("needs" in job for job in others)
    checkout, check, *_ = first["steps"]
    assert checkout["uses"].startswith("actions/checkout@")
    given = read(path).get("env", {}) | first.get("env", {})
    variables = {value[len("${{ inputs.") : -len(" }}")]: name for name, value in given.items()}
    assert set(check["run"].split()) == {"ci/check-inputs", *(variables[name] for name in wanted)}
    elsewhere = re.findall(r"\$\{\{ inputs\.(\S+) \}\}", yaml.safe_dump(list(steps(path))))
    assert set(elsewhere) & wanted == set()


@each_file
def test_a_checkout_leaves_no_credentials(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", [*FILES, ACTION], ids=lambda path: path.stem)
def test_what_workflows_run_is_there(path: Path) -> None:
    targets = set(re.findall(r"^([\w./$()-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    targets |= {target.replace("$(VENV)", ".venv") for target in targets}
    for step in steps(path):
        for script in re.findall(r"\bci/[\w-]+", step.get("run", "")):
            assert os.access(ROOT / script, os.X_OK), f"{path.name}: {script}"
        for target in re.findall(r"\bmake ([a-z]+)", step.get("run", "")):
            assert target in targets, f"{path.name}: make {target}"
        if environment := step.get("with", {}).get("environment"):
            named = set(re.findall(r"\.venv/[.\w]+", environment))  # in an expression, or alone
            assert named, f"{path.name}: {environment}"
            assert named <= targets, f"{path.name}: make {environment}"


def published_variants() -> set[str]:
    """What build.yml builds, and joins, each under its own name."""
    build = jobs(ROOT / ".github" / "workflows" / "build.yml")
    matrix = build["image"]["strategy"]["matrix"]
    built = {*matrix["variant"], *(each["variant"] for each in matrix["include"])}
    assert set(build["index"]["strategy"]["matrix"]["variant"]) == built
    return built


def test_every_image_that_the_examples_name_is_published() -> None:
    version = load_script("release-check").read_versions(ROOT)["pyproject.toml"]
    suffixes = {variant.removeprefix("serve").removeprefix("-") for variant in published_variants()}
    published = {f"{version}{suffix and '-'}{suffix}" for suffix in suffixes}
    named = set()
    for path in (ROOT / "values-examples").glob("*.yaml"):
        values = yaml.safe_load(path.read_text("utf-8"))
        if "repository" not in values.get("slotDefaults", {}).get("image", {}):  # else it is somebody's own
            slots = [values.get("slotDefaults", {}), *values.get("slots", {}).values()]
            named |= {slot["image"]["tag"] for slot in slots if "tag" in slot.get("image", {})}
    assert {f"{version}-samples", f"{version}-gpu"} <= named <= published


def test_traffic_moves_only_after_an_approval() -> None:
    deploy = jobs(ROOT / ".github" / "workflows" / "deploy.yml")
    assert deploy["switch"]["environment"] == "production"
    assert deploy["switch"]["needs"] == "stage"
    moves = [name for name, job in deploy.items() if "ci/deploy switch" in str(job["steps"])]
    assert moves == ["switch"]


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not on PATH")
def test_actionlint() -> None:
    done = subprocess.run(["actionlint"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("zizmor") is None, reason="zizmor is not on PATH")
def test_zizmor() -> None:
    done = subprocess.run(["zizmor", "--offline", "--quiet", ".github"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
