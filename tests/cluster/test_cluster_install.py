"""The first five minutes: install the quickstart, ask as the README does, test, uninstall."""

from __future__ import annotations

import shutil

import pytest

from cluster.kube import EXAMPLES, Namespace, Release, eventually, forwarded, run

QUICKSTART = EXAMPLES / "quickstart.yaml"


def objects(namespace: Namespace) -> set[str]:
    """Kind and name of everything that a release could make; events and what Kubernetes itself makes left out."""
    kinds = "deploy,replicaset,pod,job,cronjob,svc,endpointslices,cm,secret,sa,pvc,pdb,hpa,ingress,networkpolicy"
    names = {f"{each['kind']}/{each['metadata']['name']}" for each in namespace.list(kinds)}
    return names - {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default", "Service/kubernetes"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
def test_the_quickstart_answers_curl(release: Release) -> None:
    assert "<- live" in release.install(QUICKSTART)
    with forwarded(release.namespace, f"service/{release.full}") as address:
        body = '{"features":[5.1,3.5,1.4,0.2]}'
        curl = ["curl", "-sS", "-X", "POST", f"{address}/predict", "-H", "Content-Type: application/json", "-d", body]
        assert run(curl).stdout.startswith('{"prediction":[0],')


def test_helm_test_passes_and_uninstall_leaves_what_the_readme_says(namespace: Namespace) -> None:
    release = Release(namespace, "iris")
    release.install(QUICKSTART)
    release.upgrade(QUICKSTART)  # so that the Jobs of the hooks are there as well
    told = release.helm("test", release.name, "--timeout=90s")
    assert told.count("Phase:          Succeeded") >= 2
    release.helm("uninstall", release.name, "--wait", "--timeout=90s")
    left = {f"Pod/{release.full}-test-{which}" for which in ("active", "blue")}
    hooks = [f"{release.full}-{which}" for which in ("gate", "verify")]
    left |= {f"Job/{hook}" for hook in hooks}
    of_hooks = tuple(f"Pod/{hook}-" for hook in hooks)
    eventually(
        lambda: {each for each in objects(namespace) if not each.startswith(of_hooks)} == left, f"only {left} stay", 60
    )
