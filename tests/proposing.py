"""`ci/propose-model` in a repository of its own: real git with a bare origin, and a `gh` that notes its words."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from other_venv import ROOT

_GH = '#!/bin/sh\necho "$*" >>"$(dirname "$0")/gh.log"\n'
_VALUES = "values.yaml"
_PERSON = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")


@dataclass(frozen=True)
class Proposed:
    """The values file in the branch that was pushed, and the words of the pull request."""

    values: dict[str, Any]
    request: str


@dataclass(frozen=True)
class Proposals:
    """A clone of the repository with the values file; `environ` is what each proposal has."""

    folder: Path
    environ: Mapping[str, str]

    @property
    def values_file(self) -> Path:
        """In the clone."""
        return self.folder / _VALUES

    def _run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        given = {**os.environ, **self.environ, "PATH": f"{self.folder.parent}:{os.environ['PATH']}", **environ}
        return subprocess.run(words, cwd=self.folder, env=given, capture_output=True, text=True)

    def _propose(self, source: str, name: str, version: str, **environ: str) -> subprocess.CompletedProcess[str]:
        done = self._run(str(self.folder / "ci" / "propose-model"), _VALUES, name, version, source, **environ)
        self._run("git", "checkout", "--quiet", "main")
        return done

    def propose(self, source: str, name: str, version: str, **environ: str) -> Proposed:
        """What a proposal pushed and asked for."""
        done = self._propose(source, name, version, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        pushed = self._run("git", "show", f"origin/model/{name}-{version}:{_VALUES}").stdout
        request = (self.folder.parent / "gh.log").read_text("utf-8").splitlines()[-1]
        return Proposed(yaml.safe_load(pushed), request)

    def commit(self, values: Mapping[str, Any]) -> None:
        """Make these the values of main, as merging a proposal or a person's commit does."""
        self.values_file.write_text(yaml.safe_dump(dict(values)), "utf-8")
        done = self._run("git", *_PERSON, "commit", "--quiet", "--all", "--message=Values")
        assert done.returncode == 0, done.stdout + done.stderr

    def refused(self, source: str, name: str, version: str) -> str:
        """What a proposal says that fails and pushes nothing."""
        done = self._propose(source, name, version)
        assert done.returncode != 0, done.stdout
        assert self._run("git", "ls-remote", "origin", f"model/{name}-{version}").stdout == ""
        return done.stderr


def new_proposals(folder: Path, values: Mapping[str, Any], environ: Mapping[str, str]) -> Proposals:
    """A clone in `folder` whose main has `ci` and the values file; its origin and gh are beside it."""
    shutil.copytree(ROOT / "ci", folder / "ci")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / _VALUES).write_text(yaml.safe_dump(dict(values)), "utf-8")
    gh = folder.parent / "gh"
    gh.write_text(_GH, "utf-8")
    gh.chmod(0o755)
    proposals = Proposals(folder, environ)
    for words in (
        ("init", "--quiet", "--bare", str(folder.parent / "origin.git")),
        ("init", "--quiet", "--initial-branch=main", "."),
        ("add", _VALUES),
        (*_PERSON, "commit", "--quiet", "--message=Values"),
        ("remote", "add", "origin", str(folder.parent / "origin.git")),
        ("push", "--quiet", "origin", "main"),
    ):
        done = proposals._run("git", *words)
        assert done.returncode == 0, done.stderr
    return proposals
