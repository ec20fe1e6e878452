"""How the objects fit together: selectors, ports, names, labels, hooks, settings, secrets, escape hatches."""

import re
import shlex
from typing import Any

import pytest
from helm_chart import BOTH, CHART, ROOT, SLOTS, Helm, Object, Rendered, Values, containers, overlay, pods
from object_schemas import problems
from pod_security import violations

ON = {"enabled": True}
SELECTOR = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "berth.dev/slot"}
BLUE = "Deployment/iris-berth-blue"
KEY = "0" * 64

# Each setting as far from its default as the schema lets it go.
SET: Values = {
    "workers": 1,
    "threads": 4096,
    "cpuThreads": 1024,
    "accelerate": "require",
    "batchMaxRows": 1000000,
    "batchWaitMs": 1000,
    "cacheBytes": 2**40,
    "maxInflight": 4096,
    "maxBodyBytes": 2**40,
    "maxRows": 2**40,
    "requestTimeoutSeconds": 86400,
    "stuckSeconds": 86400,
    "gracefulTimeoutSeconds": 86400,
    "pickle": "off",
    "pickleAllow": ["package.module:Name"],
    "allowCode": True,
    "versionPolicy": "strict",
    "exitOnLoadFailure": True,
    "protectMetrics": True,
    "logLevel": "error",
    "logFormat": "text",
    "payloadLog": "/tmp/payloads",
}

# Everything that the chart can make, at once.
EVERYTHING: Values = overlay(
    BOTH,
    {
        "slotDefaults": {
            "model": {"source": "pvc", "uri": "s3://models/store", "sha256": KEY, "subPath": "store"},
            "resources": {"requests": {"cpu": 1}},
            "auth": ON,
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
            "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
            "priorityClassName": "high",
            "runtimeClassName": "gvisor",
            "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
            "extraEnvFrom": [{"secretRef": {"name": "more"}}],
            "extraVolumes": [{"name": "more", "secret": {"secretName": "more"}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "initContainers": [{"name": "first", "image": "busybox:1", "command": ["true"]}],
            "sidecars": [{"name": "beside", "image": "proxy:1", "securityContext": {"runAsUser": 5}}],
            "podAnnotations": {"note": "here"},
            "podLabels": {"team": "ml"},
            "image": {"pullSecrets": ["registry"]},
        },
        "slots": {"blue": {"autoscaling": {**ON, "memoryUtilization": 80, "inflight": 8, "latencyMs": 150}}},
        "gate": {"apiKeySecret": {"name": "gate-key"}, "maxLatencyMs": 50, "requireAgreement": True},
        "service": {"type": "LoadBalancer", "nodePort": 30123, "sessionAffinity": "ClientIP"},
        "scoring": {**ON, "input": "/data/in.csv", "output": "/data/out.csv", "existingClaim": "data"},
        "apiKeys": {"ann": KEY},
        "storeCredentials": {"AWS_ACCESS_KEY_ID": "id-of-ann"},
        "serviceAccount": {"create": True},
        "networkPolicy": {**ON, "ingressFrom": [{"namespaceSelector": {}}]},
        "podMonitor": {**ON, "authorization": {"name": "gate-key"}},
        "prometheusRule": ON,
        "dashboards": ON,
        "commonLabels": {"cost": "ml"},
        "extraObjects": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}},
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Values.activeSlot }}'}",
        ],
    },
)


def server(pod: Object) -> Object:
    """The container that serves."""
    return next(each for each in containers(pod) if each["name"] == "berth")


@pytest.fixture(name="everything")
def fixture_everything(helm: Helm) -> list[Rendered]:
    """All objects that the chart can make."""
    return helm.render(EVERYTHING)


def test_everything_is_valid_and_restricted(everything: list[Rendered]) -> None:
    assert {each.key: bad for each in everything if (bad := problems(each.object))} == {}
    assert {key: unsafe for key, pod in pods(everything).items() if (unsafe := violations(pod))} == {}


def test_selectors_are_the_three_labels_of_the_pods(everything: list[Rendered]) -> None:
    labels = {key: pod["metadata"]["labels"] for key, pod in pods(everything).items()}
    chosen = 0
    for each in everything:
        selector = each.object.get("spec", {}).get("selector")
        if selector and each.kind in ("Service", "Deployment", "PodDisruptionBudget"):
            selector = selector.get("matchLabels", selector)
            assert set(selector) == SELECTOR
            slot = selector["berth.dev/slot"]
            matched = {key for key, own in labels.items() if selector.items() <= own.items()}
            assert matched == {f"Deployment/iris-berth-{slot}"}
            chosen += 1
    assert chosen == 10


def test_every_target_port_names_a_container_port(everything: list[Rendered]) -> None:
    for pod in (pods(everything)[f"Deployment/iris-berth-{slot}"] for slot in SLOTS):
        assert {port["name"]: port["containerPort"] for port in server(pod)["ports"]} == {"http": 8000}
    ports = [port for each in everything if each.kind == "Service" for port in each.object["spec"]["ports"]]
    assert {port["targetPort"] for port in ports} == {"http"}
    assert [port.get("nodePort") for port in ports] == [30123, None, None, None, None, None]


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
                assert all("=" in arg or arg in ("--verify", "--require-agreement") for arg in args if arg[:2] == "--")


def test_the_sample_request_reaches_the_gate_whole(helm: Helm) -> None:
    request = {"features": {"plan": 'it\'s "$(BASIC)"', "spend": 1048576.0, "n": 3}}
    objects = helm.objects(overlay(BOTH, {"gate": {"request": request}}))
    for name in ("Job/iris-berth-gate", "Job/iris-berth-verify"):
        args = objects[name]["spec"]["template"]["spec"]["containers"][0]["args"]
        assert '--request={"features":{"n":3,"plan":"it\'s \\"$$(BASIC)\\"","spend":1048576}}' in args


def environment(pod: Object, objects: dict[str, Object]) -> dict[str, str]:
    """The environment of the container that serves or scores, its ConfigMap included."""
    container = pod["spec"]["containers"][0]
    maps = [source["configMapRef"]["name"] for source in container.get("envFrom", []) if "configMapRef" in source]
    shared = {name: value for each in maps for name, value in objects[f"ConfigMap/{each}"]["data"].items()}
    return shared | {each["name"]: each["value"] for each in container.get("env", [])}


@pytest.mark.parametrize("change", [{}, {"autoscaling": {"enabled": False}, "gpu": ON, "config": SET}], ids=["", "set"])
def test_settings_are_those_that_the_image_takes(helm: Helm, change: Values) -> None:
    """The image refuses names and values that it does not know, so its own parser is asked."""
    settings = pytest.importorskip("berth.settings", reason="the image's package is not installed")
    rendered = helm.render(overlay(EVERYTHING, {"slots": {"blue": change}}))
    objects = {each.key: each.object for each in rendered}
    for key in (BLUE, "CronJob/iris-berth-scoring"):
        parsed = settings.parse_settings(environment(pods(rendered)[key], objects))
        assert parsed.model_store == "/models"
        assert parsed.batch_wait_ms == change.get("config", {}).get("batchWaitMs", 0)
    serving = settings.parse_settings(environment(pods(rendered)[BLUE], objects))
    assert (serving.slot, serving.port, serving.models) == ("blue", 8000, "iris@1")
    assert serving.api_keys_file == "/etc/berth/keys/api-keys"


def test_pods_get_their_settings(helm: Helm) -> None:
    change: Values = {
        "config": {"maxBodyBytes": 1048576000, "pickle": False, "pickleAllow": ["a:B", "c.d:E"], "allowCode": True},
        "gpu": {**ON, "count": 2, "product": "NVIDIA-H200", "runtimeClassName": "nvidia"},
    }
    objects = helm.objects(overlay(BOTH, {"slots": {"blue": change}}))
    data = objects["ConfigMap/iris-berth-blue"]["data"]
    assert data["BERTH_MAX_BODY_BYTES"] == "1048576000"
    assert data["BERTH_PICKLE"] == "off"
    assert data["BERTH_PICKLE_ALLOW"] == "a:B,c.d:E"
    assert data["BERTH_ALLOW_CODE"] == "true"
    assert data["BERTH_WORKERS"] == "2"
    spec = objects[BLUE]["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "NVIDIA_VISIBLE_DEVICES" not in str(objects)


def test_big_numbers_print_whole(helm: Helm) -> None:
    """1.048576e+08 is no quantity, no user and no number of bytes."""
    big = 1073741824
    change: Values = {
        "slotDefaults": {
            "tmpSize": big,
            "shmSize": big,
            "podSecurityContext": {"runAsUser": 1000680000, "fsGroup": 1000680000},
            "resources": {"requests": {"memory": big}, "limits": {"memory": big}},
            "config": {"cacheBytes": big, "maxRows": 10000000},
            "model": {"source": "pvc", "uri": "s3://m/store", "version": 20250101, "claim": {"size": big}},
            "tolerations": [{"operator": "Exists", "tolerationSeconds": 31536000}],
            "extraVolumes": [{"name": "v", "emptyDir": {"sizeLimit": big}}],
        },
        "slots": {"green": {"model": {"source": "init", "scratchSize": big}, "autoscaling": {**ON, "inflight": big}}},
        "gate": {"request": {"id": 12345678901}, "maxLatencyMs": big, "resources": {"limits": {"memory": big}}},
        "scoring": {**ON, "input": "a", "output": "b", "deadlineSeconds": 31536000, "startingDeadlineSeconds": big},
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"n": big}}],
    }
    text = "\n".join(each.text for each in helm.render(overlay(BOTH, change)))
    assert re.findall(r".*\de\+\d.*", text) == []
    assert "iris@20250101" in text


def test_claims_of_devices_take_the_place_of_the_resource(helm: Helm) -> None:
    gpu = {**ON, "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}
    spec = helm.objects(overlay(BOTH, {"slots": {"blue": {"gpu": gpu}}}))[BLUE]["spec"]["template"]["spec"]
    assert spec["resourceClaims"] == gpu["resourceClaims"]
    assert spec["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"]["limits"]


def test_a_slots_own_tag_replaces_the_defaults_digest(helm: Helm) -> None:
    one, two = (f"sha256:{digit * 64}" for digit in "12")
    values = overlay(BOTH, {"slotDefaults": {"image": {"tag": "1.0.0", "digest": one}}})
    values = overlay(values, {"slots": {"green": {"image": {"tag": "", "digest": two}}}})
    images = {key: server(pod)["image"] for key, pod in pods(helm.render(values)).items() if "Deployment" in key}
    assert list(images.values()) == ["ghcr.io/berth/berth:0.1.0", f"ghcr.io/berth/berth@{two}"]


def test_the_end_of_a_pod_leaves_time_for_everything(helm: Helm) -> None:
    change = {"slotDefaults": {"drainSeconds": 20, "config": {"gracefulTimeoutSeconds": 40}}}
    pod = pods(helm.render(overlay(BOTH, change)))[BLUE]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 65
    command = server(pod)["lifecycle"]["preStop"]["exec"]["command"]
    assert shlex.join(command) == "berth drain --wait-seconds 20"


def test_slow_models_get_their_time(helm: Helm) -> None:
    deployment = helm.objects(overlay(BOTH, {"slotDefaults": {"model": {"loadSeconds": 901}}}))[BLUE]
    probe = server(deployment["spec"]["template"])["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 901
    assert deployment["spec"]["progressDeadlineSeconds"] > 901


def test_credentials_reach_the_fetch_and_nothing_else(everything: list[Rendered]) -> None:
    pod = pods(everything)[BLUE]
    pull, first = pod["spec"]["initContainers"]
    assert pull["args"][:2] == ["pull", "s3://models/store"]
    assert pull["envFrom"] == [{"secretRef": {"name": "iris-berth-store"}}]
    assert first["securityContext"]["allowPrivilegeEscalation"] is False
    assert "iris-berth-store" not in str(server(pod))
    assert "AWS_ACCESS_KEY_ID" not in "".join(each.text for each in everything if each.kind != "Secret")
    mounts: dict[str, Any] = {each["mountPath"]: each for each in server(pod)["volumeMounts"]}
    assert mounts["/models"] == {"name": "models", "mountPath": "/models", "subPath": "store", "readOnly": True}
    assert {"/tmp", "/dev/shm", "/more", "/etc/berth/keys"} <= set(mounts)


def test_escape_hatches_end_in_the_pod(everything: list[Rendered]) -> None:
    pod = pods(everything)[BLUE]
    spec = pod["spec"]
    assert pod["metadata"]["annotations"]["note"] == "here"
    assert pod["metadata"]["labels"]["team"] == "ml"
    assert {"name": "AWS_REGION", "value": "eu-central-1"} in server(pod)["env"]
    assert {"secretRef": {"name": "more"}} in server(pod)["envFrom"]
    assert spec["containers"][1]["securityContext"]["runAsUser"] == 5
    assert spec["containers"][1]["securityContext"]["readOnlyRootFilesystem"] is True
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "gvisor")
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert {"ConfigMap/iris-x", "ConfigMap/blue"} <= {each.key for each in everything}


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
    assert policy["ingress"][0]["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert len(policy["ingress"][0]["from"]) == 2
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443}
    assert checks["ingress"] == []
    assert {port["port"] for rule in checks["egress"] for port in rule["ports"]} == {53, 8000}
    image_only = helm.objects(overlay(BOTH, {"networkPolicy": ON}))["NetworkPolicy/iris-berth"]["spec"]
    assert {port["port"] for rule in image_only["egress"] for port in rule["ports"]} == {53}


def test_names_can_be_replaced(helm: Helm) -> None:
    assert "Service/shop-preview" in helm.objects(overlay(BOTH, {"fullnameOverride": "shop"}))
    assert "Service/iris-ml-preview" in helm.objects(overlay(BOTH, {"nameOverride": "ml"}))
    assert "Service/my-berth-preview" in helm.objects(BOTH, release="my-berth")
