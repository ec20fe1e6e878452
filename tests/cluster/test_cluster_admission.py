"""The API server takes every example as it is, and restricted Pod Security has nothing against its pods."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.kube import CHART, EXAMPLES, Namespace, run

# Kinds of other projects, whose definitions a cluster may lack.
FOREIGN = (
    "monitoring.coreos.com",
    "gateway.networking.k8s.io",
    "keda.sh",
    "istio.io",
    "traefik.io",
    "external-secrets.io",
)
# Those two are no values but manifests of other platforms.
FILES = sorted(path for path in EXAMPLES.glob("*.yaml") if path.name not in ("knative.yaml", "kserve-runtime.yaml"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_an_example_is_admitted(namespace: Namespace, file: Path) -> None:
    rendered = run(["helm", "template", "iris", str(CHART), "-n", namespace.name, "-f", str(file)])
    assert rendered.returncode == 0, rendered.stderr
    objects = [each for each in yaml.load_all(rendered.stdout, yaml.CSafeLoader) if each]
    known = [each for each in objects if not any(group in each["apiVersion"] for group in FOREIGN)]
    done = namespace.try_kubectl("create", "--dry-run=server", "-f", "-", text=yaml.safe_dump_all(known))
    assert done.returncode == 0, done.stderr
    assert "would violate" not in done.stderr
