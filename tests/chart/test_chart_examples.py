"""Every example renders, is valid on the newest Kubernetes minors, restricted, and says whom it is for."""

import itertools
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import EXAMPLES, MANIFESTS, SLOTS, Helm, Rendered, containers, example_files, pods, read_values
from object_schemas import minors, problems
from pod_security import violations

NAMES = [path.name for path in example_files()]
LONG = "r" * 53
CONTRACT = """
quickstart production gpu blue-green-1-install blue-green-2-stage blue-green-3-switch blue-green-4-retire canary
pvc-model s3-model mlflow-model batch-scoring autoscaling-custom argocd flux istio air-gapped data-residency multi-model
monitored grpc kafka-consumer signed-model oci-model ab-test bandit shadow ensemble hf-model cloud-identity
canary-analysis
"""


def values_of(name: str) -> dict[str, Any]:
    """The values of an example."""
    return read_values(EXAMPLES / name)


def longest(helm: Helm, name: str) -> list[Rendered]:
    """An example in a release with the longest name that Helm allows."""
    return helm.render(values_of(name), release=LONG)


def test_every_situation_of_the_contract_has_its_file() -> None:
    assert {name.removesuffix(".yaml") for name in NAMES} == set(CONTRACT.split())


@pytest.mark.parametrize("name", [*NAMES, "gitops/argocd-application.yaml", "gitops/flux-helmrelease.yaml", *MANIFESTS])
def test_first_lines_say_whom_it_is_for(name: str) -> None:
    lines = (EXAMPLES / name).read_text().splitlines()
    assert lines[0].startswith("# For: ")
    assert all(len(line) <= 160 for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_example_is_valid_on_the_newest_minors(helm: Helm, name: str) -> None:
    assert len(minors()) == 5
    found = {each.key: bad for each in longest(helm, name) if (bad := problems(each.object))}
    assert found == {}


@pytest.mark.parametrize("name", NAMES)
def test_example_is_restricted(helm: Helm, name: str) -> None:
    found = {key: bad for key, pod in pods(longest(helm, name)).items() if (bad := violations(pod))}
    assert found == {}


def test_restricted_check_sees_an_unsafe_pod() -> None:
    bare: dict[str, Any] = {"spec": {"containers": [{"name": "c"}], "volumes": [{"name": "v", "hostPath": {}}]}}
    assert len(violations(bare)) == 5


def test_schema_check_sees_an_unknown_key_and_a_wrong_type() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}
    assert len(problems(service)) >= 1
    container = {"name": "c", "image": "i", "imagePullPolice": "Always"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
    assert any("imagePullPolice" in problem for problem in problems(pod))
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "spec": {"triggers": [], "minReplicaCount": "1"},
    }
    assert len(problems(scaled)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_names_fit_with_the_longest_release_name(helm: Helm, name: str) -> None:
    for each in longest(helm, name):
        assert len(each.name) <= {"CronJob": 52, "ScaledObject": 54}.get(each.kind, 63), each.key
        assert not each.name.endswith("-")


def test_blue_green_changes_one_thing_at_a_time() -> None:
    steps = [values_of(name) for name in NAMES if name.startswith("blue-green")]
    differences = [set(leaves(before) ^ leaves(after)) for before, after in itertools.pairwise(steps)]
    assert [{path for path, _ in difference} for difference in differences] == [
        {"slots.green.mode", "slots.green.model.version"},
        {"activeSlot"},
        {"slots.blue.mode"},
    ]


def leaves(values: Any, path: str = "") -> set[tuple[str, str]]:
    """Every value with its path."""
    if not isinstance(values, dict):
        return {(path, str(values))}
    return {leaf for key, each in values.items() for leaf in leaves(each, f"{path}.{key}".strip("."))}


def test_production_pods_are_guaranteed(helm: Helm) -> None:
    pod = pods(helm.render(values_of("production.yaml")))["Deployment/iris-berth-blue"]
    for container in containers(pod):
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_air_gapped_images_are_pinned_and_inside(helm: Helm) -> None:
    for pod in pods(helm.render(values_of("air-gapped.yaml"))).values():
        for container in containers(pod):
            assert container["image"].startswith("registry.internal:5000/")
            assert "@sha256:" in container["image"]


def test_data_stays_in_its_region(helm: Helm) -> None:
    for key, pod in pods(helm.render(values_of("data-residency.yaml"))).items():
        assert pod["spec"]["nodeSelector"] == {"topology.kubernetes.io/region": "eu-central-1"}, key


def test_several_models_are_named_in_order(helm: Helm) -> None:
    pod = pods(helm.render(values_of("multi-model.yaml")))["Deployment/iris-berth-blue"]
    environment = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    assert environment["BERTH_MODELS"] == "iris@1,churn@7,house-prices"
    assert "--models=iris@1,churn@7,house-prices" in pod["spec"]["initContainers"][0]["args"]


@pytest.mark.parametrize("path", sorted((EXAMPLES / "gitops").glob("*.yaml")), ids=lambda path: path.name)
def test_gitops_objects_name_files_that_exist(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert all({"apiVersion", "kind", "metadata", "spec"} <= set(each) for each in documents)
    for source in documents[0]["spec"].get("sources", []):
        for file in source.get("helm", {}).get("valueFiles", []):
            assert (EXAMPLES.parent / file.removeprefix("$values/")).is_file()


def test_quickstart_can_be_staged_as_the_first_page_says() -> None:
    """The commands of the first page work with this file: green has its image pinned already."""
    assert set(values_of("quickstart.yaml")["slots"]) == set(SLOTS)
    assert all("tag" in slot["image"] for slot in values_of("quickstart.yaml")["slots"].values())
    assert shlex.split((EXAMPLES / "quickstart.yaml").read_text().splitlines()[2].lstrip("# "))[0] == "helm"


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector chooses an object with these labels."""
    wanted = selector.get("matchLabels", {}).items()
    among = [(each["key"], each["values"]) for each in selector.get("matchExpressions", [])]
    return wanted <= labels.items() and all(labels.get(key) in values for key, values in among)


def test_production_lets_in_who_asks_and_out_what_fetches(helm: Helm) -> None:
    rendered = helm.render(values_of("production.yaml"))
    labels = {key: pod["metadata"]["labels"] for key, pod in pods(rendered).items()}
    policies = [each.object["spec"] for each in rendered if each.kind == "NetworkPolicy"]
    of_pod = {key: [p for p in policies if selects(p["podSelector"], found)] for key, found in labels.items()}
    assert {key: len(found) for key, found in of_pod.items()} == dict.fromkeys(labels, 1)
    assert all(policy["policyTypes"] == ["Ingress", "Egress"] for policy in policies)

    (server,), (gate,) = of_pod["Deployment/iris-berth-blue"], of_pod["Job/iris-berth-gate"]
    (entrance,) = server["ingress"]
    assert entrance["ports"] == [{"port": "http", "protocol": "TCP"}]
    namespaces = [peer["namespaceSelector"]["matchLabels"] for peer in entrance["from"] if "namespaceSelector" in peer]
    assert namespaces == [{"kubernetes.io/metadata.name": name} for name in ("gateways", "monitoring")]
    (ours,) = [peer["podSelector"] for peer in entrance["from"] if "podSelector" in peer]
    assert all(selects(ours, found) for found in labels.values())  # gate, verify and helm test among them

    dns, store = server["egress"]
    assert [port["port"] for port in dns["ports"]] == [53, 53]
    assert store["ports"] == [{"port": 443, "protocol": "TCP"}]
    assert "169.254.0.0/16" in store["to"][0]["ipBlock"]["except"]
    dns, slots = gate["egress"]
    assert [port["port"] for port in dns["ports"]] == [53, 53]
    assert slots["ports"] == [{"port": 8000, "protocol": "TCP"}]
    assert selects(slots["to"][0]["podSelector"], labels["Deployment/iris-berth-blue"])
    assert gate["ingress"] == []
