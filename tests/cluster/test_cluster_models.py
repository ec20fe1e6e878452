"""Where models come from: a claim, a fetch before the start, a claim that is filled, an image volume."""

from __future__ import annotations

import json

import pytest

from cluster.kube import (
    EXAMPLES,
    FLOWER,
    REPOSITORY,
    TAG,
    Namespace,
    Object,
    Release,
    Values,
    eventually,
    restricted_container,
)
from cluster.kube import restricted_pod as pod

QUICKSTART = EXAMPLES / "quickstart.yaml"
IMAGE = f"{REPOSITORY}:{TAG}"


def claim(name: str) -> Object:
    """A small claim."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def fill(namespace: Namespace, name: str) -> None:
    """Make a claim that holds the image's models."""
    mount = {"volumeMounts": [{"name": "store", "mountPath": "/store"}]}
    copy = "import os, shutil; [shutil.copytree(f'/models/{name}', f'/store/{name}') for name in os.listdir('/models')]"
    volume = {"name": "store", "persistentVolumeClaim": {"claimName": name}}
    filler = restricted_container("fill", IMAGE, ["python", "-c", copy], **mount)
    namespace.apply(claim(name), pod("fill", [filler], restartPolicy="Never", volumes=[volume]))
    namespace.kubectl("wait", "pod/fill", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")


def serve_store(namespace: Namespace) -> str:
    """The URL of a plain web server over the image's models."""
    command = ["python", "-m", "http.server", "--directory", "/models", "8080"]
    service = {"selector": {"app": "store"}, "ports": [{"port": 80, "targetPort": 8080}]}
    namespace.apply(
        pod("store", [restricted_container("store", IMAGE, command)], {"app": "store"}),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"}, "spec": service},
    )
    namespace.kubectl("wait", "pod/store", "--for=condition=Ready", "--timeout=60s")
    return "http://store"


def model(**values: object) -> Values:
    """Values for the model of both slots."""
    return {"slotDefaults": {"model": values}}


def check_answer(release: Release) -> None:
    """The release predicts."""
    client = release.namespace.client()
    # helm waits for ready pods; the node's proxy learns of them up to a second later, and refuses until then.
    eventually(lambda: client.ask(f"{release.url}/readyz").status != 0, "the Service leads to the pods", 10)
    answer = client.ask(f"{release.url}/predict", FLOWER)
    assert (answer.status, answer.json()["prediction"]) == (200, [0])


def test_a_claim_that_is_there(release: Release) -> None:
    fill(release.namespace, "models")
    release.install(QUICKSTART, model(source="pvc", existingClaim="models"))
    check_answer(release)


def test_a_fetch_before_the_start(release: Release) -> None:
    uri = serve_store(release.namespace)
    release.install(QUICKSTART, model(source="init", uri=uri))
    check_answer(release)


def test_a_claim_that_is_filled_and_outlives_the_release(release: Release) -> None:
    uri = serve_store(release.namespace)
    release.install(QUICKSTART, model(source="pvc", uri=uri, claim={"size": "64Mi"}))
    check_answer(release)
    release.helm("uninstall", release.name)
    assert release.namespace.get("persistentvolumeclaim", f"{release.full}-blue-models")


def test_a_fetched_model_with_another_digest_is_refused(release: Release) -> None:
    uri = serve_store(release.namespace)
    values = model(source="init", uri=uri, sha256="0" * 64)
    release.apply_chart(QUICKSTART, values)
    pods = f"app.kubernetes.io/instance={release.name}"

    def refused() -> bool:
        found = release.namespace.try_kubectl("logs", "-l", pods, "-c", "pull", "--tail=5").stdout
        return "sha256" in found and "0" * 64 in found

    eventually(refused, "the log of the init container tells the digest")
    assert not any(pod["status"]["containerStatuses"][0]["ready"] for pod in release.pods("blue"))


def test_an_image_volume(release: Release) -> None:
    values = model(source="oci", uri=IMAGE, subPath="models", path="/srv/models")
    version = json.loads(release.namespace.kubectl("version", "-o", "json"))["serverVersion"]
    if int(version["minor"].rstrip("+")) < 35:
        pytest.skip("image volumes are on by default from Kubernetes 1.35")
    release.install(QUICKSTART, values)
    check_answer(release)
