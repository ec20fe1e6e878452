"""What stands in a slot's pods: settings, sizes, images, secrets, probes and the user's own additions."""

import re
import shlex
from typing import Any

import pytest
from every_value import EVERYTHING, ON, SET
from helm_chart import BOTH, Helm, Object, Rendered, Values, overlay, pods, server

BLUE = "Deployment/iris-berth-blue"
ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")


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
    for key in (BLUE, "CronJob/iris-berth-scoring", "Deployment/iris-berth-streaming"):
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


@pytest.mark.parametrize(
    ("resource", "taint", "label"),
    [
        ("nvidia.com/gpu", "nvidia.com/gpu", "nvidia.com/gpu.product"),
        ("nvidia.com/mig-1g.5gb", "nvidia.com/gpu", "nvidia.com/gpu.product"),
        ("amd.com/gpu", "amd.com/gpu", "amd.com/gpu.product-name"),
    ],
)
def test_a_gpus_vendor_names_its_taint_and_label(helm: Helm, resource: str, taint: str, label: str) -> None:
    gpu = {**ON, "resource": resource, "product": "X", "tolerations": [{"key": "team", "operator": "Exists"}]}
    spec = helm.objects(overlay(BOTH, {"slots": {"blue": {"gpu": gpu}}}))[BLUE]["spec"]["template"]["spec"]
    assert [each["key"] for each in spec["tolerations"]] == [taint, "team"]
    assert spec["nodeSelector"] == {label: "X"}
    own = overlay(BOTH, {"slots": {"blue": {"gpu": {**gpu, "productLabel": "e.org/card"}}}})
    assert helm.objects(own)[BLUE]["spec"]["template"]["spec"]["nodeSelector"] == {"e.org/card": "X"}


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


@pytest.mark.parametrize(
    ("uri", "imports"),
    [("s3://m/store", False), ("mlflow:models:/iris@champion", True), ("hf://acme/iris@1a2b/model.joblib", True)],
)
def test_a_model_elsewhere_is_imported(helm: Helm, uri: str, imports: bool) -> None:
    model = {"source": "init", "uri": uri}
    spec = pods(helm.render(overlay(BOTH, {"slotDefaults": {"model": model}})))[BLUE]["spec"]
    assert ("--import" in spec["initContainers"][0]["args"]) is imports


@pytest.mark.parametrize(("size", "text"), [("4Gi", "4Gi"), (1073741824, "1073741824")])
def test_a_pull_knows_what_its_volume_may_hold(helm: Helm, size: Any, text: str) -> None:
    """Else the kubelet evicts the pod later, while it serves; `berth pull` compares before a byte comes."""
    model = {"source": "init", "uri": "s3://m/store", "scratchSize": size}
    spec = pods(helm.render(overlay(BOTH, {"slotDefaults": {"model": model}})))[BLUE]["spec"]
    assert {"name": "STORE_MAX_BYTES", "value": text} in spec["initContainers"][0]["env"]
    volume = next(each for each in spec["volumes"] if each["name"] == "models")
    assert volume["emptyDir"]["sizeLimit"] == size
    of_claim = overlay(BOTH, {"slotDefaults": {"model": {**model, "source": "pvc"}}})
    assert "STORE_MAX_BYTES" not in str(pods(helm.render(of_claim))[BLUE])


def test_claims_of_devices_take_the_place_of_the_resource(helm: Helm) -> None:
    gpu = {**ON, "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}
    spec = helm.objects(overlay(BOTH, {"slots": {"blue": {"gpu": gpu}}}))[BLUE]["spec"]["template"]["spec"]
    assert spec["resourceClaims"] == gpu["resourceClaims"]
    assert spec["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"]["limits"]


def test_a_slots_own_tag_replaces_the_defaults_digest(helm: Helm) -> None:
    values = overlay(BOTH, {"slotDefaults": {"image": {"tag": "1.0.0", "digest": ONE}}})
    values = overlay(values, {"slots": {"green": {"image": {"tag": "", "digest": TWO}}}})
    images = {key: server(pod)["image"] for key, pod in pods(helm.render(values)).items() if "Deployment" in key}
    assert list(images.values()) == ["ghcr.io/berth/berth:0.1.0", f"ghcr.io/berth/berth@{TWO}"]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, f"ghcr.io/berth/berth:0.1.0@{ONE}"),
        ({"repository": "registry.example/berth"}, f"registry.example/berth:0.1.0@{ONE}"),
        ({"tag": "0.1.0-gpu"}, "ghcr.io/berth/berth:0.1.0-gpu"),
        ({"digest": TWO}, f"ghcr.io/berth/berth:0.1.0@{TWO}"),
    ],
    ids=["nothing set", "a mirror", "another tag", "another digest"],
)
def test_a_released_charts_digest_goes_with_its_tag(helm: Helm, image: dict[str, str], reference: str) -> None:
    released = {"tag": f"0.1.0@{ONE}"}  # what ci/package-chart writes
    values: Values = {"slotDefaults": {"model": {"name": "iris"}, "image": {**released, **image}}}
    assert server(pods(helm.render(values))[BLUE])["image"] == reference


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


def test_feedback_mounts_the_keys_of_its_secret(helm: Helm) -> None:
    for values, on in ((BOTH, False), (overlay(BOTH, {"feedback": {"existingSecret": "receipts", "key": "k"}}), True)):
        pod = pods(helm.render(values))["Deployment/iris-berth-blue"]["spec"]
        container = pod["containers"][0]
        environment = {each["name"]: each.get("value") for each in container["env"]}
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert environment.get("BERTH_FEEDBACK_KEY_FILE") == ("/etc/berth/feedback/keys" if on else None)
        assert mounts.get("feedback-keys") == ("/etc/berth/feedback" if on else None)
        secret = {"secretName": "receipts", "items": [{"key": "k", "path": "keys"}]}
        assert volumes.get("feedback-keys") == ({"name": "feedback-keys", "secret": secret} if on else None)


def test_a_pod_that_is_resized_in_place_does_not_restart(helm: Helm) -> None:
    container = server(helm.objects(BOTH)[BLUE]["spec"]["template"])
    assert container["resizePolicy"] == [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]
