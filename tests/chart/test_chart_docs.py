"""The drawing names the Services, and the pages speak of commands, files and keys that exist."""

import re
import subprocess
import sys

import pytest
from helm_chart import CHART, ROOT, SLOTS, read_values

PAGES = ["docs/operating.md", "docs/hooks.md", "chart/README.md"]


def test_the_drawing_names_every_service() -> None:
    drawing = re.search(r"```mermaid\n(.*?)```", (ROOT / "docs" / "operating.md").read_text(), re.DOTALL)
    assert drawing
    assert all(
        f"<b>{name}</b>" in drawing[1]
        for name in ("iris-berth", "iris-berth-preview", *(f"iris-berth-{slot}" for slot in SLOTS))
    )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)\)", file.read_text()):
        assert (file.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_keys_that_pages_set_are_values(page: str) -> None:
    values = read_values(CHART / "values.yaml")
    for flag in re.findall(r"--set(?:-json)? '?([A-Za-z.]+)=", (ROOT / page).read_text()):
        node = values
        for step in flag.replace("SLOT", "green").split("."):
            # A slot takes any key of slotDefaults.
            node = {**values["slotDefaults"], **node} if "mode" in node else node
            assert step in node, flag
            node = node[step]


def test_examples_that_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"values-examples/([a-z0-9/-]+\.yaml)", (ROOT / page).read_text()):
            assert (ROOT / "values-examples" / name).exists(), name


def usage(command: str) -> str:
    """What the image's command line says about a command, empty when it has none such."""
    call = [sys.executable, "-m", "berth", command, "--help"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@pytest.mark.parametrize("command", ["gate", "drain", "pull"])
def test_the_command_line_takes_what_the_interface_says(command: str) -> None:
    page = (ROOT / "docs" / "hooks.md").read_text()
    parts = [part for part in page.split("\n## ") if part.startswith(f"`berth {command}")]
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", "".join(parts))) - {"--set"}
    assert options
    assert options - set(re.findall(r"--[a-z0-9-]+", usage(command))) == set()
