"""Image and chart as they are released: pushed, pulled by digest, and switched step by step with ci/deploy.

TEST_REGISTRY names a registry on this machine, plain http, from which the cluster's nodes pull under the same name, and
TEST_IMAGE an image that docker or podman has here; without them the tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.kube import REPOSITORY, SMALL, TAG, Namespace, Release, Values
from image.scripts import ci, find, load_script, make_keys

KUBECONFIG = Path(os.environ.get("KUBECONFIG", ""))
REGISTRY = os.environ.get("TEST_REGISTRY", "")
VERSION = load_script("release-check").read_versions(Path(__file__).parents[2])["pyproject.toml"]
MISSING = [program for program in ("crane", "cosign", "jq") if shutil.which(program) is None]
pytestmark = [
    pytest.mark.skipif(not REGISTRY, reason="TEST_REGISTRY is unset: no registry that the nodes pull from"),
    pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}"),
]
# What somebody sets who trusts the chart's defaults: the model, one pod of it that ends soon, and looks that fail soon.
VALUES: Values = {
    "slotDefaults": {
        "model": {"name": "iris", "version": 1},
        "replicas": 1,
        "drainSeconds": 2,
        **{key: SMALL["slotDefaults"][key] for key in ("resources", "strategy")},
    },
    "gate": {"timeoutSeconds": 10},
    "verify": {"timeoutSeconds": 10},
}


@dataclass(frozen=True)
class Published:
    """The digested names of an image and of the chart that runs it."""

    image: str
    chart: str

    @property
    def runs(self) -> str:
        """The image as the chart's pods name it."""
        repository, _, digest = self.image.partition("@")
        return f"{repository}:{VERSION}@{digest}"


@pytest.fixture(scope="module")
def published(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Both in the registry, under names of this run's own, so that nothing of an earlier run is found there."""
    if not find("engine"):
        pytest.skip("no docker or podman that works here")
    folder = tmp_path_factory.mktemp("released")
    environ = make_keys(folder) | {"CHARTS": f"oci://{REGISTRY}/{namespace.name}"}
    name = f"{REGISTRY}/{namespace.name}/image"
    pushed = ci("publish", "image", f"{REPOSITORY}:{TAG}", f"{name}:pushed", environ=environ)
    # Under an identity of its own: an image that the kubelet has pulled once, whatever its name, no longer counts as
    # loaded beforehand, and the other tests' pods would look for it in a registry that does not have it.
    mutate = ["crane", "mutate", pushed, "-t", f"{name}:1", "--label", f"dev.berth.test={namespace.name}"]
    image = subprocess.run(mutate, check=True, capture_output=True, text=True).stdout.strip()
    return Published(image, ci("release-chart", image, folder, environ=environ))


@pytest.fixture(scope="module")
def installed(namespace: Namespace, published: Published) -> Iterator[Release]:
    """The release `iris` of the chart in the registry, by digest, with no image named."""
    release = Release(namespace, "iris")
    words = (f"oci://{published.chart}", "--plain-http", "--wait", "--timeout=150s")
    release.helm("install", "iris", *words, values=[VALUES])
    yield release
    release.remove()


def deploy(release: Release, published: Published, step: str, fails: bool = False, **environ: str) -> str:
    """One step as the workflow calls it: the cluster's access as text, and nothing else."""
    environ |= {"RELEASE": release.name, "NAMESPACE": release.namespace.name, "PLAIN_HTTP": "1", "TIMEOUT": "150s"}
    environ |= {"CHART": f"oci://{published.chart}", "KUBECONFIG": "", "KUBECONFIG_DATA": KUBECONFIG.read_text("utf-8")}
    return ci("deploy", step, fails=fails, environ=environ)


def check_pods(release: Release, slot: str, published: Published) -> list[str]:
    """The slot's pods run the published bytes and have never restarted; their identities."""
    pods = release.pods(slot)
    assert pods
    for pod in pods:
        (status,) = pod["status"]["containerStatuses"]
        assert pod["spec"]["containers"][0]["image"] == published.runs
        assert status["imageID"].endswith(published.image.partition("@")[2])
        assert status["restartCount"] == 0, status["lastState"]
    return [pod["metadata"]["uid"] for pod in pods]


def wait_gone(release: Release, slot: str) -> None:
    """Until the last of the slot's pods has ended."""
    release.namespace.kubectl("wait", "pod", "-l", f"berth.dev/slot={slot}", "--for=delete", "--timeout=90s")


def test_the_released_chart_runs_the_released_image(installed: Release, published: Published) -> None:
    check_pods(installed, "blue", published)


def test_a_slot_is_deployed_in_four_steps(installed: Release, published: Published) -> None:
    live = check_pods(installed, "blue", published)
    assert "want what stage printed" in deploy(installed, published, "switch", fails=True, SLOT="purple")
    assert deploy(installed, published, "stage", MODEL_VERSION="2") == "green"
    check_pods(installed, "green", published)
    deploy(installed, published, "verify", SLOT="green")
    assert "switch first" in deploy(installed, published, "retire", fails=True, SLOT="green")
    assert installed.active_slot() == "blue"

    scale = ("scale", f"deployment/{installed.full}-green")
    installed.namespace.kubectl(*scale, "--replicas=0")
    wait_gone(installed, "green")
    deploy(installed, published, "verify", fails=True, SLOT="green")
    assert "REFUSED" in deploy(installed, published, "switch", fails=True, SLOT="green")
    assert installed.active_slot() == "blue"

    installed.namespace.kubectl(*scale, "--replicas=1")
    installed.ready("green")
    deploy(installed, published, "switch", SLOT="green")
    assert installed.active_slot() == "green"
    assert check_pods(installed, "blue", published) == live  # no step has touched them
    deploy(installed, published, "retire", SLOT="green")
    wait_gone(installed, "blue")
    check_pods(installed, "green", published)
