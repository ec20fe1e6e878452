"""What messages and help texts name is there: options of the command that they name, commands, settings, extras."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

from berth.cli.main import berth
from berth.settings import TABLE, variable

PACKAGE = Path(__file__).parents[2] / "image" / "berth"
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]\b")
_SETTING = re.compile(r"\bBERTH_[A-Z_]+[A-Z]\b")
_EXTRA = re.compile(r"berth\[(\w+)\]")
_COMMAND = re.compile(r"\bberth ([a-z][a-z-]+(?: [a-z][a-z-]+)?)")
# Options of other programs, whose messages name them.
_OTHERS = {
    "--keras": "tf2onnx",
    "--artifacts-destination": "server",
    "--no-hooks": "",
    "--set": "",
    "--reset-then-reuse-values": "helm",
    "--rollback-on-failure": "upgrade",
    "--help": "",
    "--all-containers": "kubectl",
}


def _commands(group: click.Group, names: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{names}{name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{names}{name} ")


OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in _commands(berth)
}


def _texts(node: ast.AST) -> Iterator[str]:
    """Strings of code: f-strings whole, with … for what is filled in; docstrings are for readers of the code."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in child.values)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        elif not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from _texts(child)


@cache
def _package_texts() -> set[tuple[str, str]]:
    """(file, text) of the whole package."""
    return {
        (str(path.relative_to(PACKAGE)), text)
        for path in PACKAGE.rglob("*.py")
        for text in _texts(ast.parse(path.read_text("utf-8")))
    }


def _named(pattern: re.Pattern[str]) -> Iterator[tuple[str, str, str]]:
    """(name, text, file) of all texts."""
    for path, text in sorted(_package_texts()):
        for name in pattern.findall(text):
            yield name, text, path


def _of(text: str) -> set[str]:
    """The options of the one command that a text names; those of all where it names none, or several."""
    found = {name for name in _COMMAND.findall(text) if name in OPTIONS}
    found |= {name.split()[0] for name in _COMMAND.findall(text) if name not in OPTIONS} & OPTIONS.keys()
    return OPTIONS[found.pop()] if len(found) == 1 else set().union(*OPTIONS.values())


def test_the_options_that_texts_name_are_there() -> None:
    named = list(_named(_OPTION))
    assert len(named) > 100
    missing = [
        (option, text, path)
        for option, text, path in named
        if option not in _of(text) and not (option in _OTHERS and _OTHERS[option] in text)
    ]
    assert missing == []


def test_the_commands_that_texts_name_are_there() -> None:
    first = {name.split()[0] for name in OPTIONS}
    named = {name.split()[0] for name, text, _ in _named(_COMMAND) if f"`berth {name.split()[0]}" in text}
    assert {"add", "sign"} <= named
    assert named <= first


def test_the_settings_that_texts_name_are_there() -> None:
    known = {variable(setting) for setting in TABLE}
    named = {(name, path) for name, _, path in _named(_SETTING) if path != "settings.py"}
    assert len(named) > 20
    assert {(name, path) for name, path in named if name not in known} == set()


def test_the_extras_that_texts_name_are_there() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    named = {name for name, _, _ in _named(_EXTRA)}
    assert "accelerate" in named
    assert named <= project["optional-dependencies"].keys()
