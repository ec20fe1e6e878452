"""What a switch, a change of the idle slot, an autoscaler and a new chart may change, and what never."""

import re
import shutil
from pathlib import Path

import pytest
from helm_chart import BOTH, CHART, SLOTS, Helm, Object, Rendered, Values, overlay, pods

ROUTES = {"HTTPRoute", "VirtualService", "IngressRoute", "TraefikService", "Ingress", "DestinationRule"}

# Everything on, so that a switch has everything to change that it must not.
EVERYTHING: Values = overlay(
    BOTH,
    {
        "slotDefaults": {"autoscaling": {"enabled": True}, "model": {"source": "init", "uri": "s3://models/iris"}},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "web"}]},
        "istio": {"enabled": True, "hosts": ["iris.example"]},
        "traefik": {"enabled": True, "hosts": ["iris.example"]},
        "ingress": {"enabled": True, "hosts": [{"host": "a.example", "paths": [{"path": "/", "pathType": "Prefix"}]}]},
        "canary": {"weight": 10, "mirrorPercent": 20, "headers": [{"name": "X-Slot", "value": "next"}]},
        "scoring": {"enabled": True, "input": "in.csv", "output": "out.csv"},
        "networkPolicy": {"enabled": True},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
        "serviceAccount": {"create": True},
    },
)


def texts(rendered: list[Rendered]) -> dict[str, str]:
    """The release's objects as text, without hooks."""
    return {each.key: each.text for each in rendered if not each.hook}


def changed(helm: Helm, before: Values, after: Values) -> set[str]:
    """Objects that two sets of values render differently."""
    old, new = texts(helm.render(before)), texts(helm.render(after))
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def test_flip_changes_services_and_routes_only(helm: Helm) -> None:
    difference = changed(helm, EVERYTHING, overlay(EVERYTHING, {"activeSlot": "green"}))
    assert {"Service/iris-berth", "Service/iris-berth-preview", "HTTPRoute/iris-berth"} <= difference
    assert {key.split("/")[0] for key in difference} <= {"Service"} | ROUTES


def test_flip_without_routes_changes_two_selectors(helm: Helm) -> None:
    flipped = overlay(BOTH, {"activeSlot": "green"})
    assert changed(helm, BOTH, flipped) == {"Service/iris-berth", "Service/iris-berth-preview"}
    old, new = helm.objects(BOTH)["Service/iris-berth"], helm.objects(flipped)["Service/iris-berth"]
    assert new == overlay(old, {"spec": {"selector": {"berth.dev/slot": "green"}}})


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"version": "2"}},
        {"image": {"tag": "0.2.0"}},
        {"config": {"logLevel": "debug"}},
        {"autoscaling": {"enabled": True}},
        {"mode": "standby", "standbyReplicas": 2},
        {"mode": "absent"},
        {"restartToken": "again", "replicas": 3, "nodeSelector": {"a": "b"}},
    ],
    ids=lambda change: ",".join(change),
)
def test_idle_slot_never_touches_the_live_one(helm: Helm, change: Values) -> None:
    difference = changed(helm, BOTH, overlay(BOTH, {"slots": {"green": change}}))
    assert difference
    assert all("green" in key for key in difference)


@pytest.mark.parametrize(
    "change",
    [
        {"autoscaling": {"enabled": True}},
        {"keda": {"enabled": True, "triggers": [{"type": "cpu", "metadata": {"value": "60"}}]}},
        {"mode": "standby"},
        {"replicas": 7},
        {"podDisruptionBudget": {"enabled": False}},
    ],
    ids=lambda change: ",".join(change),
)
def test_scaling_and_mode_leave_pod_templates_equal(helm: Helm, change: Values) -> None:
    after = helm.render(overlay(BOTH, {"slots": {"green": change}}))
    assert pods(after)["Deployment/iris-berth-green"] == pods(helm.render(BOTH))["Deployment/iris-berth-green"]


def test_chart_version_leaves_pod_templates_byte_equal(helm: Helm, tmp_path: Path) -> None:
    newer = tmp_path / "chart"
    shutil.copytree(CHART, newer)
    description = newer / "Chart.yaml"
    description.write_text(re.sub(r"(?m)^(version|appVersion): .*$", r'\1: "9.9.9"', description.read_text()))

    def templates(rendered: list[Rendered]) -> dict[str, str]:
        return {
            each.key: each.text.split("\n  template:")[1] for each in rendered if each.kind in ("Deployment", "Job")
        }

    old, new = templates(helm.render(EVERYTHING)), templates(helm.render(EVERYTHING, chart=newer))
    assert old == new
    assert len(old) == 4


def gate(rendered: dict[str, Object]) -> list[str]:
    """The arguments of the gate."""
    args: list[str] = rendered["Job/iris-berth-gate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


@pytest.mark.parametrize("slot", SLOTS)
def test_gate_asks_for_the_fingerprint_of_the_pods(helm: Helm, slot: str) -> None:
    objects = helm.objects(overlay(BOTH, {"activeSlot": slot, "slots": {"green": {"model": {"version": 2}}}}))
    pod = objects[f"Deployment/iris-berth-{slot}"]["spec"]["template"]
    environment = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    fingerprint = pod["metadata"]["annotations"]["berth.dev/fingerprint"]
    assert re.fullmatch("[0-9a-f]{12}", fingerprint)
    assert environment["BERTH_FINGERPRINT"] == fingerprint
    assert environment["BERTH_SLOT"] == slot
    assert f"--fingerprint={fingerprint}" in gate(objects)
    assert f"--target-url=http://iris-berth-{slot}.shop.svc:80" in gate(objects)
    assert f"--headless-host=iris-berth-{slot}-pods.shop.svc" in gate(objects)
    (container,) = objects["Job/iris-berth-gate"]["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "EVERY_POD_HOST", "value": f"iris-berth-{slot}-every-pod.shop.svc"}]
    ready, every = (objects[f"Service/iris-berth-{slot}-{which}"]["spec"] for which in ("pods", "every-pod"))
    assert (ready["publishNotReadyAddresses"], every["publishNotReadyAddresses"]) == (False, True)
    assert ready["selector"] == every["selector"]


def fingerprint(helm: Helm, change: Values, sets: tuple[str, ...] = ()) -> str:
    """The fingerprint of the green slot."""
    rendered = helm.render(overlay(BOTH, {"slots": {"green": change}}), sets=sets)
    return str(pods(rendered)["Deployment/iris-berth-green"]["metadata"]["annotations"]["berth.dev/fingerprint"])


@pytest.mark.parametrize(
    "change",
    [
        {"image": {"tag": "0.1.1"}},
        {"model": {"version": "2"}},
        {"config": {"batchWaitMs": 5}},
        {"resources": {"limits": {"cpu": "2"}}},
        {"gpu": {"enabled": True}},
        {"restartToken": "x"},
    ],
    ids=lambda change: ",".join(change),
)
def test_fingerprint_follows_what_is_served(helm: Helm, change: Values) -> None:
    assert fingerprint(helm, change) != fingerprint(helm, {})


def test_fingerprint_ignores_how_many_and_how_a_number_was_written(helm: Helm) -> None:
    assert fingerprint(helm, {"replicas": 4, "autoscaling": {"maxReplicas": 4}, "mode": "standby"}) == fingerprint(
        helm, {}
    )
    as_text, as_number = fingerprint(helm, {"model": {"version": "2"}}), fingerprint(helm, {"model": {"version": 2}})
    by_flag = fingerprint(helm, {}, sets=("slots.green.model.version=2",))
    assert as_text == as_number == by_flag


@pytest.mark.parametrize("weight", [0, 1, 50, 100])
def test_weights_sum_to_100(helm: Helm, weight: int) -> None:
    objects = helm.objects(overlay(EVERYTHING, {"canary": {"weight": weight}}))
    route = objects["HTTPRoute/iris-berth"]["spec"]["rules"][-1]["backendRefs"]
    istio = objects["VirtualService/iris-berth"]["spec"]["http"][-1]["route"]
    traefik = objects["TraefikService/iris-berth-weighted"]["spec"]["weighted"]["services"]
    for backends in (route, istio, traefik):
        assert [each["weight"] for each in backends] == [100 - weight, weight]


def test_active_and_preview_are_disjoint(helm: Helm) -> None:
    for slot in SLOTS:
        objects = helm.objects(overlay(BOTH, {"activeSlot": slot}))
        chosen = [objects[f"Service/iris-berth{end}"]["spec"]["selector"]["berth.dev/slot"] for end in ("", "-preview")]
        assert chosen == [slot, next(other for other in SLOTS if other != slot)]


def test_tests_ask_the_active_and_the_preview_service(helm: Helm) -> None:
    asked = {}
    for each in helm.render(BOTH):
        if each.hook == "test":
            args = each.object["spec"]["containers"][0]["args"]
            asked[each.name] = [arg.split("=")[1] for arg in args if arg.startswith(("--active-url", "--target-slot"))]
    assert asked == {
        "iris-berth-test-active": ["http://iris-berth.shop.svc:80", "blue"],
        "iris-berth-test-blue": ["http://iris-berth-blue.shop.svc:80", "blue"],
        "iris-berth-test-green": ["http://iris-berth-preview.shop.svc:80", "green"],
    }


def test_the_gate_limits_drift_where_it_should(helm: Helm) -> None:
    assert not [arg for arg in gate(helm.objects(BOTH)) if arg.startswith("--max-drift")]
    assert "--max-drift=2" in gate(helm.objects(overlay(BOTH, {"gate": {"maxDrift": 2}})))
    assert "--max-drift=0.5" in gate(helm.objects(overlay(BOTH, {"gate": {"maxDrift": 0.5}})))


def test_verify_asks_through_the_route_for_its_first_host(helm: Helm) -> None:
    route: Values = {
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "gw"}], "hostnames": ["*.example", "b.example"]}
    }
    through: Values = {"verify": {"routeUrl": "http://gateway.infra.svc"}, "canary": {"weight": 10}}
    values = overlay(BOTH, overlay(route, through))
    args = helm.objects(values)["Job/iris-berth-verify"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [arg for arg in args if arg.startswith("--route")] == [
        "--route-url=http://gateway.infra.svc",
        "--route-host=verify.example",
        "--route-shares",
    ]
    plain = helm.objects(overlay(BOTH, route))["Job/iris-berth-verify"]["spec"]["template"]["spec"]["containers"][0][
        "args"
    ]
    assert not [arg for arg in plain if arg.startswith("--route")]
