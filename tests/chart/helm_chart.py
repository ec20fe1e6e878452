"""Renders the chart with `helm template`, each set of values once a session, and tells objects apart."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "chart"
EXAMPLES = ROOT / "values-examples"
SLOTS = ("blue", "green")
HELM = shutil.which("helm")

Values = dict[str, Any]
Object = dict[str, Any]

# The smallest values with both slots on, which most tests start from.
BOTH: Values = {
    "slotDefaults": {"model": {"name": "iris", "version": "1"}},
    "slots": {
        "blue": {"mode": "serve", "image": {"tag": "0.1.0"}},
        "green": {"mode": "serve", "image": {"tag": "0.1.0"}},
    },
}


class Refused(Exception):
    """Helm rendered nothing; the message is what it printed."""


@dataclass(frozen=True)
class Rendered:
    """One object: its text, what it means, and the template it came from."""

    text: str
    object: Object
    template: str

    @property
    def kind(self) -> str:
        """What sort of object it is."""
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        """Its name in the namespace."""
        return str(self.object["metadata"]["name"])

    @property
    def key(self) -> str:
        """Kind and name, unique in a namespace."""
        return f"{self.kind}/{self.name}"

    @property
    def hook(self) -> str:
        """The hooks it runs in, empty for an object of the release."""
        return str(self.object["metadata"].get("annotations", {}).get("helm.sh/hook", ""))

    def pod(self) -> Object | None:
        """The pod, or pod template, that it holds."""
        spec = self.object.get("spec", {})
        if self.kind == "Pod":
            return self.object
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        return template if isinstance(template, dict) else None


@dataclass
class Helm:
    """Runs helm, and remembers what it answered."""

    program: str
    answers: dict[str, list[Rendered] | Refused] = field(default_factory=dict)

    def render(
        self, values: Values, release: str = "iris", chart: Path = CHART, sets: tuple[str, ...] = ()
    ) -> list[Rendered]:
        """The objects of a release with these values; raises Refused with helm's message."""
        key = json.dumps([values, release, str(chart), sets], sort_keys=True)
        if key not in self.answers:
            self.answers[key] = self._run(values, release, chart, sets)
        answer = self.answers[key]
        if isinstance(answer, Refused):
            raise answer
        return answer

    def objects(self, values: Values, release: str = "iris") -> dict[str, Object]:
        """The same by kind and name, hooks included."""
        return {each.key: each.object for each in self.render(values, release)}

    def refusal(self, values: Values) -> str:
        """What helm says about values that must not render, its wrapped lines joined again."""
        try:
            self.render(values)
        except Refused as refused:
            return str(refused).replace("\n  ", " ")
        raise AssertionError("rendered, though it should have been refused")

    def notes(self, values: Values) -> str:
        """What helm prints after an install with these values."""
        command = [self.program, "install", "iris", str(CHART), "-n", "shop", "--dry-run=client", "-f", "-"]
        done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=True)
        return done.stdout.split("\nNOTES:\n")[1]

    def _run(self, values: Values, release: str, chart: Path, sets: tuple[str, ...]) -> list[Rendered] | Refused:
        flags = [flag for each in sets for flag in ("--set", each)]
        command = [self.program, "template", release, str(chart), "--namespace", "shop", "-f", "-", *flags]
        done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
        return list(parse_manifest(done.stdout)) if done.returncode == 0 else Refused(done.stderr)


def parse_manifest(text: str) -> Iterator[Rendered]:
    """Objects of helm's output, each with the template that its `# Source:` line names."""
    template = ""
    for part in f"\n{text}".split("\n---\n"):
        for line in part.splitlines():
            if line.startswith("# Source: "):
                template = line.split("/templates/", 1)[1]
        parsed = yaml.load(part, Loader=yaml.CSafeLoader)
        if parsed:
            yield Rendered(part.strip(), parsed, template)


def overlay(under: Any, over: Any) -> Any:
    """Values with others on top, map by map, as helm lays one values file on another."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {**under, **{key: overlay(under.get(key), value) for key, value in over.items()}}


# Objects of other tools, which no chart reads.
MANIFESTS = ("knative.yaml", "kserve-runtime.yaml")


def example_files() -> list[Path]:
    """Every values file of values-examples that is for helm itself: no Argo CD or Flux files, no KServe manifest."""
    found = EXAMPLES.glob("**/*.yaml")
    return sorted(path for path in found if path.parent.name != "gitops" and path.name not in MANIFESTS)


def read_values(path: Path) -> Values:
    """A values file."""
    values: Values = yaml.safe_load(path.read_text())
    return values


def pods(rendered: list[Rendered]) -> dict[str, Object]:
    """Every pod template by its owner's kind and name."""
    return {each.key: pod for each in rendered if (pod := each.pod()) is not None}


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, init containers first."""
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def server(pod: Object) -> Object:
    """The container that serves."""
    return next(each for each in containers(pod) if each["name"] == "berth")
