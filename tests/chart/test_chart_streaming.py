"""Consumers: a Deployment with a slot's image, model and settings, and a ScaledObject by the messages that wait."""

from typing import Any

import pytest
from every_value import ON
from helm_chart import BOTH, Helm, Values, overlay, pods
from object_schemas import problems
from pod_security import violations

KEY = "Deployment/iris-berth-streaming"
SCALED = "ScaledObject/iris-berth-streaming"
KAFKA = {"source": "kafka://k1:9092,k2:9092/rows", "sink": "kafka://k1:9092,k2:9092/scores"}
REDIS = {"source": "redis://cache/rows", "sink": "redis://cache/scores"}


def streaming(**more: Any) -> Values:
    """Both slots and consumers of a topic."""
    values: Values = overlay(BOTH, {"streaming": {**ON, **KAFKA, **more}})
    return values


def test_a_deployment_with_the_slots_image_and_model(helm: Helm) -> None:
    values = streaming(slot="green", deadLetter="dead", existingSecret="brokers", replicas=3, guarantee="exactly-once")
    objects = helm.objects(values)
    assert objects[KEY]["spec"]["replicas"] == 3
    assert SCALED not in objects
    pod = objects[KEY]["spec"]["template"]
    slot = objects["Deployment/iris-berth-green"]["spec"]["template"]
    container, serving = pod["spec"]["containers"][0], slot["spec"]["containers"][0]
    assert container["image"] == serving["image"]
    assert container["args"][:4] == ["consume", KAFKA["source"], f"--to={KAFKA['sink']}", "--dead=dead"]
    assert {"--group=berth-iris", "--guarantee=exactly-once", "--batch-rows=1000", "--linger-ms=50"} <= set(
        container["args"]
    )
    assert container["envFrom"] == [{"secretRef": {"name": "brokers"}}]
    models = {each["name"]: each["value"] for each in serving["env"]}["BERTH_MODELS"]
    assert {"name": "BERTH_MODELS", "value": models} in container["env"]
    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/readyz", "/livez"}
    assert pod["spec"]["terminationGracePeriodSeconds"] > 25


def test_it_is_valid_and_restricted_and_behind_no_service(helm: Helm) -> None:
    rendered = helm.render(streaming(keda={"lagThreshold": 100}))
    assert {each.key: bad for each in rendered if (bad := problems(each.object))} == {}
    assert violations(pods(rendered)[KEY]) == []
    labels = pods(rendered)[KEY]["metadata"]["labels"]
    selectors = [each.object["spec"]["selector"] for each in rendered if each.kind == "Service"]
    assert selectors
    assert not any(selector.items() <= labels.items() for selector in selectors)


@pytest.mark.parametrize(
    ("places", "trigger"),
    [
        (
            KAFKA,
            {
                "type": "kafka",
                "metadata": {
                    "bootstrapServers": "k1:9092,k2:9092",
                    "consumerGroup": "berth-iris",
                    "topic": "rows",
                    "lagThreshold": "100",
                    "offsetResetPolicy": "earliest",
                },
                "authenticationRef": {"name": "brokers"},
            },
        ),
        (
            REDIS,
            {
                "type": "redis-streams",
                "metadata": {
                    "address": "cache:6379",
                    "consumerGroup": "berth-iris",
                    "stream": "rows",
                    "lagCount": "100",
                },
                "authenticationRef": {"name": "brokers"},
            },
        ),
    ],
    ids=["kafka", "redis"],
)
def test_keda_scales_by_the_messages_that_wait(helm: Helm, places: dict[str, str], trigger: dict[str, Any]) -> None:
    keda = {"lagThreshold": 100, "maxReplicas": 6, "triggerAuthentication": "brokers"}
    objects = helm.objects(streaming(**places, replicas=2, keda=keda))
    assert "replicas" not in objects[KEY]["spec"]
    spec = objects[SCALED]["spec"]
    assert spec["scaleTargetRef"] == {"name": "iris-berth-streaming"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 6)
    assert spec["triggers"] == [trigger]


def test_metrics_and_policy_include_the_consumers(helm: Helm) -> None:
    egress = {"networkPolicy": {**ON, "extraEgress": [{"ports": [{"port": 9092, "protocol": "TCP"}]}]}}
    objects = helm.objects(overlay(streaming(), {"podMonitor": ON, **egress}))
    for kind, selector in (("PodMonitor", "selector"), ("NetworkPolicy", "podSelector")):
        expressions = objects[f"{kind}/iris-berth"]["spec"][selector]["matchExpressions"]
        assert "streaming" in expressions[0]["values"]
        assert "server" in expressions[0]["values"]


def test_nothing_is_made_where_it_is_off(helm: Helm) -> None:
    assert not any("streaming" in each.text for each in helm.render(BOTH))
