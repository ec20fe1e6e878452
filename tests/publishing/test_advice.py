"""Every step that a refusal names is taken as printed, until the model is in the store and answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.errors import BerthError
from berth.loaders.formats import LoadOptions
from berth.loaders.unpickle.loading import parse_allow
from berth.models.store import find_version
from berth.serving.opening import open_version
from publishing.advice_files import REFUSED

STEPS = 4
# What a person knows and the message cannot: the sizes of a net.
_KNOWN = {"NAME:DATATYPE:SHAPE": "x:FP32:-1,2"}


def run_command(command: str, folder: Path) -> None:
    """A shell command as it is printed, in the folder of the file."""
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", command], cwd=folder, env=environ, check=True, timeout=60)


class Attempt:
    """A file, and what is added to the command that adds it, step by step."""

    def __init__(self, file: Path) -> None:
        self.file, self.options, self.allow = file, [], ""

    options: list[str]

    def add(self) -> str | None:
        """What `berth add` refuses with; None once the version is there."""
        arguments = ["add", str(self.file), "--name", "m", "--store", str(self.file.parent / "store"), *self.options]
        done = CliRunner().invoke(berth, arguments, env={"BERTH_PICKLE_ALLOW": self.allow, "BERTH_ACCELERATE": "off"})
        if isinstance(done.exception, BerthError):
            return done.exception.message
        assert done.exit_code == 0, done.output
        return None

    def follow(self, message: str) -> None:
        """Take the step that a message names. Fails where it names none."""
        if found := re.search(r"convert it with (.+?) and add (?:that|(\S+))", message):
            run_command(found[1], self.file.parent)
            self.file = self.file.parent / (found[2] or found[1].rpartition(">")[2])
        elif found := re.search(r"BERTH_PICKLE_ALLOW=([^; ]+)", message):
            self.allow = ",".join(filter(None, (self.allow, found[1])))
        elif found := re.search(r"--steps \S+", message):
            self.options += found[0].split()
        elif found := re.search(r"--sample (\S+)", message):
            self._option("--sample", str(self.file.parent / found[1]), message)
        else:
            pytest.fail(f"no step that can be taken: {message}")

    def _option(self, name: str, value: str, message: str) -> None:
        if not Path(value).exists() and (declared := re.search(r"--input (\S+)", message)):
            name, value = "--input", _KNOWN[declared[1]]
        assert value not in self.options, message
        self.options += [name, value]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_the_step_that_a_refusal_names_leads_to_a_served_model(case: str, tmp_path: Path) -> None:
    attempt = Attempt(REFUSED[case](tmp_path))
    messages: list[str] = []
    while (message := attempt.add()) is not None:
        assert len(messages) < STEPS, messages
        messages.append(message)
        attempt.follow(message)
    assert messages, "it is not refused at first"
    options = LoadOptions(pickle_allow=parse_allow(attempt.allow))
    model = open_version(find_version(tmp_path / "store", "m"), options, "warn")
    assert model.example is not None
