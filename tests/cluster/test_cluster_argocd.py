"""Under Argo CD: a committed switch goes through the gate, and one to a bad slot is refused.

TEST_GITOPS names a folder with two programs: `commit REPOSITORY FOLDER` makes the folder's content the next commit,
`sync FILE|APPLICATION SECONDS` syncs an Application and fails unless it becomes Synced and Healthy. CLUSTER_GIT_URL is
the address under which Argo CD knows the repositories.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster.kube import CHART, EXAMPLES, FLOWER, SMALL, Namespace, Object, Release, Values, run

PROGRAMS, GIT = os.environ.get("TEST_GITOPS", ""), os.environ.get("CLUSTER_GIT_URL", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROGRAMS or not GIT, reason="TEST_GITOPS is unset: no Argo CD")]


@dataclass(frozen=True)
class Repository:
    """The chart and its values, as a Git repository that one Application follows."""

    namespace: Namespace
    folder: Path

    def application(self) -> Object:
        """The Application over the repository."""
        files = ["argocd.yaml", "small.json", "change.json"]
        source = {"repoURL": f"{GIT}/{self.namespace.name}.git", "path": ".", "targetRevision": "main"}
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": self.namespace.name, "namespace": "argocd"},
            "spec": {
                "project": "default",
                "destination": {"server": "https://kubernetes.default.svc", "namespace": self.namespace.name},
                "source": {**source, "helm": {"releaseName": "iris", "valueFiles": files}},
            },
        }

    def sync(self, change: Values) -> tuple[bool, str]:
        """Commit these values and sync: whether it became Synced and Healthy, and what was printed."""
        (self.folder / "change.json").write_text(json.dumps(change), "utf-8")
        committed = run([f"{PROGRAMS}/commit", self.namespace.name, str(self.folder)])
        assert committed.returncode == 0, committed.stderr
        file = self.folder.parent / "application.yaml"
        file.write_text(yaml.safe_dump(self.application()), "utf-8")
        done = run([f"{PROGRAMS}/sync", str(file), "150"])
        return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def repository(namespace: Namespace, tmp_path: Path) -> Repository:
    """The chart beside the values of the example, for the image under test."""
    folder = tmp_path / "repository"
    shutil.copytree(CHART, folder)
    shutil.copy(EXAMPLES / "argocd.yaml", folder)
    (folder / "small.json").write_text(json.dumps({**SMALL, "gate": {"timeoutSeconds": 15}}), "utf-8")
    return Repository(namespace, folder)


def test_a_committed_switch_goes_through_the_gate(repository: Repository) -> None:
    namespace, release = repository.namespace, Release(repository.namespace, "iris")
    client = namespace.client()
    staged: Values = {"slots": {"green": {"mode": "serve", "model": {"version": 2}}}}
    synced, told = repository.sync({})
    assert synced, told
    assert release.active_slot() == "blue"
    synced, told = repository.sync(staged)
    assert synced, told
    synced, told = repository.sync({**staged, "activeSlot": "green"})
    assert synced, told
    assert release.active_slot() == "green"
    assert client.ask(f"{release.url}/predict", FLOWER).slot == "green"

    # Back to blue, which changes in the same commit.
    bad = {"green": staged["slots"]["green"], "blue": {"model": {"version": 99}}}
    synced, told = repository.sync({"activeSlot": "blue", "slots": bad})
    assert not synced
    log = namespace.kubectl("logs", f"job/{release.full}-gate")
    print(log)
    assert "REFUSED" in log
    assert "stage first" in log
    assert release.active_slot() == "green"
    assert client.ask(f"{release.url}/predict", FLOWER).slot == "green"

    namespace.cluster.kubectl(f"delete application {namespace.name}", namespace="argocd")
