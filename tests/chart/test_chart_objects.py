"""How the objects fit together: selectors, ports, names, labels, hooks, policies."""

import re

from every_value import EVERYTHING, ON
from helm_chart import BOTH, CHART, ROOT, SLOTS, Helm, Rendered, containers, overlay, pods, server
from object_schemas import problems
from pod_security import violations

SELECTOR = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "berth.dev/slot"}
# Consumers have no slot label: no Service chooses them.
STREAMING = "iris-berth-streaming"


def test_everything_is_valid_and_restricted(everything: list[Rendered]) -> None:
    assert {each.key: bad for each in everything if (bad := problems(each.object))} == {}
    assert {key: unsafe for key, pod in pods(everything).items() if (unsafe := violations(pod))} == {}


def test_selectors_are_the_three_labels_of_the_pods(everything: list[Rendered]) -> None:
    labels = {key: pod["metadata"]["labels"] for key, pod in pods(everything).items()}
    chosen = 0
    for each in everything:
        selector = each.object.get("spec", {}).get("selector")
        if selector and each.kind in ("Service", "Deployment", "PodDisruptionBudget") and each.name != STREAMING:
            selector = selector.get("matchLabels", selector)
            assert set(selector) == SELECTOR
            slot = selector["berth.dev/slot"]
            matched = {key for key, own in labels.items() if selector.items() <= own.items()}
            assert matched == {f"Deployment/iris-berth-{slot}"}
            chosen += 1
    assert chosen == 12


def test_every_target_port_names_a_container_port(everything: list[Rendered]) -> None:
    for pod in (pods(everything)[f"Deployment/iris-berth-{slot}"] for slot in SLOTS):
        assert {port["name"]: port["containerPort"] for port in server(pod)["ports"]} == {"http": 8000, "grpc": 8081}
    ports = [port for each in everything if each.kind == "Service" for port in each.object["spec"]["ports"]]
    assert {port["targetPort"] for port in ports} == {"http", "grpc"}
    nodes = [port.get("nodePort") for port in ports if port["name"] == "http"]
    assert nodes == [30123, *[None] * 7]


def test_objects_stand_in_the_file_named_after_their_kind(everything: list[Rendered]) -> None:
    for each in everything:
        if each.template != "extraobjects.yaml":
            assert each.template.removesuffix(".yaml").split("-")[0] == each.kind.lower()
    kinds = {
        path.name: set(re.findall(r"(?m)^kind: (\w+)", path.read_text())) for path in (CHART / "templates").iterdir()
    }
    assert {name for name, found in kinds.items() if len(found) > 1} == set()


def test_objects_carry_the_six_labels_and_the_users(everything: list[Rendered]) -> None:
    for each in everything:
        if each.template != "extraobjects.yaml":
            labels = each.object["metadata"]["labels"]
            six = {
                f"app.kubernetes.io/{end}"
                for end in ("name", "instance", "version", "component", "part-of", "managed-by")
            }
            assert six | {"cost"} <= set(labels), each.key
            assert each.object["metadata"]["namespace"] == "shop"


def test_hooks_name_nothing_that_the_revision_makes(everything: list[Rendered]) -> None:
    made = {each.name for each in everything if each.kind in ("ConfigMap", "Secret", "ServiceAccount")}
    for each in everything:
        if each.hook:
            pod = each.pod()
            assert pod is not None
            spec = pod["spec"]
            assert "serviceAccountName" not in spec
            assert spec["automountServiceAccountToken"] is False
            assert not made & set(re.findall(r"(?:name|secretName): (\S+)", each.text.split("spec:", 1)[1]))
    hooks = {each.name: each.hook for each in everything if each.hook}
    assert hooks["iris-berth-gate"] == "pre-upgrade,pre-rollback"
    assert {name for name, hook in hooks.items() if hook == "test"} == {
        f"iris-berth-test-{end}" for end in ("active", *SLOTS)
    }


def documented_options(command: str) -> set[str]:
    """The options that docs/hooks.md knows."""
    text = (ROOT / "docs" / "hooks.md").read_text()
    return set(re.findall(r"--[a-z0-9-]+", text[text.index(f"`{command}`") :]))


def test_arguments_are_those_of_the_interface(everything: list[Rendered]) -> None:
    for pod in pods(everything).values():
        for container in containers(pod):
            args = container.get("args", [])
            if args[:1] == ["gate"] or args[:1] == ["pull"]:
                options = {arg.split("=")[0] for arg in args if arg.startswith("--")}
                command = "berth gate --verify" if "--verify" in args else f"berth {args[0]}"
                assert options <= documented_options(command)
                assert all(
                    "=" in arg or arg in ("--verify", "--require-agreement", "--route-shares")
                    for arg in args
                    if arg[:2] == "--"
                )


def test_the_sample_request_reaches_the_gate_whole(helm: Helm) -> None:
    request = {"features": {"plan": 'it\'s "$(BASIC)"', "spend": 1048576.0, "n": 3}}
    objects = helm.objects(overlay(BOTH, {"gate": {"request": request}}))
    for name in ("Job/iris-berth-gate", "Job/iris-berth-verify"):
        args = objects[name]["spec"]["template"]["spec"]["containers"][0]["args"]
        assert '--request={"features":{"n":3,"plan":"it\'s \\"$$(BASIC)\\"","spend":1048576}}' in args


def test_hooks_keep_their_logs_for_a_day(helm: Helm) -> None:
    """Made anew by the next upgrade, and by the next sync of Argo CD, so that their names are free."""
    objects = helm.objects(BOTH)
    for name in ("Job/iris-berth-gate", "Job/iris-berth-verify"):
        assert objects[name]["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation"
        assert objects[name]["spec"]["ttlSecondsAfterFinished"] == 24 * 60 * 60


def test_autoscaler_asks_for_its_own_slot(everything: list[Rendered]) -> None:
    metrics = next(each for each in everything if each.kind == "HorizontalPodAutoscaler").object["spec"]["metrics"]
    pod_metrics = [metric["pods"] for metric in metrics if metric["type"] == "Pods"]
    assert [metric["metric"]["name"] for metric in pod_metrics] == [
        "berth_inflight",
        "berth_request_duration_seconds_p99",
    ]
    assert all(metric["metric"]["selector"] == {"matchLabels": {"slot": "blue"}} for metric in pod_metrics)
    assert pod_metrics[1]["target"] == {"type": "AverageValue", "averageValue": "150m"}
    assert [metric["containerResource"]["container"] for metric in metrics[:2]] == ["berth", "berth"]


def test_network_policies_let_in_callers_and_checks(helm: Helm) -> None:
    policies = helm.objects(EVERYTHING)
    policy, checks = (policies[f"NetworkPolicy/iris-berth{end}"]["spec"] for end in ("", "-checks"))
    assert [port["port"] for port in policy["ingress"][0]["ports"]] == ["http", "grpc"]
    assert len(policy["ingress"][0]["from"]) == 2
    # 8000: pods share the counts of their experiments. 6379 is the consumers' broker, named by hand.
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443, 6379, 8000}
    assert checks["ingress"] == []
    assert {port["port"] for rule in checks["egress"] for port in rule["ports"]} == {53, 8000}
    image_only = helm.objects(overlay(BOTH, {"networkPolicy": ON}))["NetworkPolicy/iris-berth"]["spec"]
    assert {port["port"] for rule in image_only["egress"] for port in rule["ports"]} == {53}


def test_names_can_be_replaced(helm: Helm) -> None:
    assert "Service/shop-preview" in helm.objects(overlay(BOTH, {"fullnameOverride": "shop"}))
    assert "Service/iris-ml-preview" in helm.objects(overlay(BOTH, {"nameOverride": "ml"}))
    assert "Service/my-berth-preview" in helm.objects(BOTH, release="my-berth")
