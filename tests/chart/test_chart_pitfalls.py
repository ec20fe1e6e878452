"""Mistakes that other charts made in public; each one is a test here."""

import re

import pytest
from helm_chart import BOTH, CHART, MANIFESTS, SLOTS, Helm, Object, Values, overlay, pods, read_values
from helm_chart import EXAMPLES as EXAMPLE_FILES
from helm_chart import ROOT as REPOSITORY

ON = {"enabled": True}
BLUE, GREEN = "Deployment/iris-berth-blue", "Deployment/iris-berth-green"


def slot_pods(helm: Helm, change: Values) -> dict[str, Object]:
    """The pod templates of both slots."""
    return {key: pod for key, pod in pods(helm.render(overlay(BOTH, change))).items() if key in (BLUE, GREEN)}


def test_pod_labels_carry_no_version_of_the_chart(helm: Helm) -> None:
    """bitnami/charts#16125: a chart version in the pods' labels restarts them at every upgrade."""
    for key, pod in slot_pods(helm, {"commonLabels": {"team": "ml"}}).items():
        assert pod["metadata"]["labels"] == {
            "app.kubernetes.io/name": "berth",
            "app.kubernetes.io/instance": "iris",
            "app.kubernetes.io/component": "server",
            "berth.dev/slot": key.rsplit("-", 1)[1],
        }


def test_the_fingerprint_is_the_only_checksum(helm: Helm) -> None:
    """A checksum over a rendered file changes with its labels, and so with the chart's version."""
    for pod in slot_pods(helm, {}).values():
        assert list(pod["metadata"]["annotations"]) == ["berth.dev/fingerprint"]


def test_slots_share_no_config_map(helm: Helm) -> None:
    """With one ConfigMap for both slots, staging one changes what the other reads at its next restart."""
    for key, pod in slot_pods(helm, {}).items():
        assert pod["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": key.split("/")[1]}}]


def test_config_map_names_stay_when_settings_change(helm: Helm) -> None:
    """A hash in the name deletes the ConfigMap under pods that restart."""
    before, after = helm.objects(BOTH), helm.objects(overlay(BOTH, {"slotDefaults": {"config": {"maxRows": 5}}}))
    assert {key for key in before if key.startswith("ConfigMap")} == {
        key for key in after if key.startswith("ConfigMap")
    }
    assert after["ConfigMap/iris-berth-blue"]["data"]["BERTH_MAX_ROWS"] == "5"


def test_budgets_never_block_a_drain(helm: Helm) -> None:
    """minAvailable: 1 with one replica stops every node drain, and a sick pod would as well."""
    objects = helm.objects(BOTH)
    for slot in SLOTS:
        spec = objects[f"PodDisruptionBudget/iris-berth-{slot}"]["spec"]
        assert "minAvailable" not in spec
        assert spec["maxUnavailable"] == 1
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_each_pod_is_scraped_once(helm: Helm) -> None:
    """A ServiceMonitor on shared labels finds a pod behind three Services, and counts it three times."""
    objects = helm.objects(overlay(BOTH, {"podMonitor": ON}))
    assert not [key for key in objects if key.startswith("ServiceMonitor")]
    selector = objects["PodMonitor/iris-berth"]["spec"]["selector"]
    assert selector["matchExpressions"] == [{"key": "berth.dev/slot", "operator": "Exists"}]
    checks = [pod for key, pod in pods(helm.render(BOTH)).items() if key not in (BLUE, GREEN)]
    assert len(checks) == 5
    assert not [pod for pod in checks if "berth.dev/slot" in pod["metadata"]["labels"]]


def test_each_slot_has_a_claim_of_its_own(helm: Helm) -> None:
    """Two slots on one ReadWriteOnce claim wait for each other's node."""
    claims = {}
    for key, pod in slot_pods(helm, {"slotDefaults": {"model": {"source": "pvc"}}}).items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        claims[key] = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claims == {BLUE: "iris-berth-blue-models", GREEN: "iris-berth-green-models"}


def test_service_links_are_off(helm: Helm) -> None:
    """A Service named berth would set BERTH_PORT=tcp://… in every pod of the namespace."""
    for pod in pods(helm.render(BOTH)).values():
        assert pod["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize(
    ("change", "surge", "missing"),
    [
        ({}, 1, 0),
        ({"gpu": ON}, 0, 1),
        ({"model": {"source": "pvc"}}, 0, 1),
        ({"model": {"source": "pvc", "claim": {"accessModes": ["ReadWriteMany"]}}}, 1, 0),
        ({"gpu": ON, "strategy": {"maxSurge": 1, "maxUnavailable": "25%"}}, 1, "25%"),
    ],
    ids=["plain", "gpu", "claim of one node", "shared claim", "by hand"],
)
def test_rollouts_ask_for_no_spare_that_is_not_there(
    helm: Helm, change: Values, surge: int, missing: int | str
) -> None:
    """maxSurge: 1 waits for ever where no GPU is spare."""
    spec = helm.objects(overlay(BOTH, {"slots": {"green": change}}))[GREEN]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": missing}


def test_a_switch_waits_for_nobody() -> None:
    """helm --wait would wait for the sick slot that one is leaving."""
    release = (EXAMPLE_FILES / "gitops" / "flux-helmrelease.yaml").read_text()
    assert "disableWait: true" in release
    for text in ("chart/templates/NOTES.txt", "chart/README.md"):
        assert "--wait " not in (REPOSITORY / text).read_text()


def test_readiness_is_not_liveness(helm: Helm) -> None:
    """A busy or draining server must leave the Service, not be killed."""
    for pod in slot_pods(helm, {}).values():
        server = pod["spec"]["containers"][0]
        paths = [server[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")]
        assert paths == ["/readyz", "/readyz", "/livez"]


@pytest.mark.parametrize("mode", ["serve", "standby"])
@pytest.mark.parametrize("owner", ["autoscaling", "keda"])
def test_an_autoscaled_slot_never_renders_replicas(helm: Helm, mode: str, owner: str) -> None:
    """helm/helm#7090 and #12650: an upgrade sets the replicas back to what the chart says."""
    extra = {"inflight": 4, "prometheusAddress": "http://prometheus:9090"} if owner == "keda" else {}
    change = {"mode": mode, "standbyReplicas": 2, owner: {**ON, **extra}}
    objects = helm.objects(overlay(BOTH, {"slots": {"green": change}}))
    assert "replicas" not in objects[GREEN]["spec"]
    assert objects[BLUE]["spec"]["replicas"] == 1
    kind, ends = ("HorizontalPodAutoscaler", "Replicas") if owner == "autoscaling" else ("ScaledObject", "ReplicaCount")
    spec = objects[f"{kind}/iris-berth-green"]["spec"]
    fewest, most = spec[f"min{ends}"], spec[f"max{ends}"]
    assert (fewest, most) == (2, 2) if mode == "standby" else fewest < most


def test_a_null_takes_a_limit_away(helm: Helm) -> None:
    """`cpu: null` must neither print a null nor leave the limit."""
    change = {"slots": {"green": {"resources": {"limits": {"cpu": None}}, "nodeSelector": {"zone": None}}}}
    pod = slot_pods(helm, change)[GREEN]
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    assert "nodeSelector" not in pod["spec"]


def test_verify_asks_on_fresh_connections(helm: Helm) -> None:
    """Kept-alive connections stay on the old slot; only new ones tell where traffic goes."""
    job = helm.objects(overlay(BOTH, {"activeSlot": "green"}))["Job/iris-berth-verify"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-upgrade"
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args == [
        "gate",
        "--verify",
        "--active-url=http://iris-berth.shop.svc:80",
        "--target-slot=green",
        "--connections=20",
        "--timeout-seconds=60",
    ]


def test_verify_analyses_a_canary_that_has_a_weight(helm: Helm) -> None:
    route: Values = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "web"}]}}
    analysis = {"enabled": True, "seconds": 600, "maxErrorIncrease": 0, "maxLatencyRatio": 2, "inconclusive": "pass"}
    on = overlay(overlay(BOTH, route), {"canary": {"weight": 0, "analysis": analysis}})
    weighted = overlay(on, {"canary": {"weight": 5}})
    key = "Job/iris-berth-verify"
    idle, job = helm.objects(on)[key]["spec"], helm.objects(weighted)[key]["spec"]
    assert idle == helm.objects(BOTH)[key]["spec"]
    args = job["template"]["spec"]["containers"][0]["args"]
    green = helm.objects(weighted)["Deployment/iris-berth-green"]["spec"]["template"]
    assert args[6:] == [
        "--release=iris",
        "--live-host=iris-berth-blue-pods.shop.svc",
        "--canary-host=iris-berth-green-pods.shop.svc",
        f"--canary-fingerprint={green['metadata']['annotations']['berth.dev/fingerprint']}",
        "--canary-seconds=600",
        "--canary-min-requests=500",
        "--canary-max-error-increase=0",
        "--canary-max-latency-ratio=2",
        "--canary-max-drift=0",
        "--canary-inconclusive=pass",
    ]
    assert job["activeDeadlineSeconds"] == idle["activeDeadlineSeconds"] + 600


def test_examples_pin_every_slot() -> None:
    """A slot without an image of its own restarts when the default moves."""
    for path in (path for path in EXAMPLE_FILES.glob("*.yaml") if path.name not in MANIFESTS):
        for slot in read_values(path)["slots"].values():
            assert {"tag", "digest"} & set(slot["image"]), path.name


# The keys of slotDefaults that values.yaml names as exceptions to "changing a key restarts the slots".
NO_RESTART: Values = {
    "replicas": 3,
    "standbyReplicas": 2,
    "autoscaling": {"enabled": True, "maxReplicas": 4},
    "keda": {"enabled": True, "inflight": 4, "prometheusAddress": "http://prometheus:9090"},
    "podDisruptionBudget": {"maxUnavailable": 2},
    "strategy": {"maxSurge": 2, "minReadySeconds": 9, "revisionHistoryLimit": 1},
}


@pytest.mark.parametrize("key", NO_RESTART)
def test_the_keys_that_restart_no_pod_are_named(helm: Helm, key: str) -> None:
    comment = (CHART / "values.yaml").read_text().partition("\nslotDefaults:")[0].rpartition("\n\n")[2]
    assert re.search(rf"exceptions are.*\b{key}\b", comment, re.DOTALL)
    assert slot_pods(helm, {"slotDefaults": {key: NO_RESTART[key]}}) == slot_pods(helm, {})


def test_another_key_restarts_the_slots(helm: Helm) -> None:
    assert slot_pods(helm, {"slotDefaults": {"drainSeconds": 11}}) != slot_pods(helm, {})
