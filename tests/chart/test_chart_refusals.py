"""Everything that the chart refuses, one case each: the values that trigger it and the words that name the fix."""

import re

import pytest
from helm_chart import BOTH, CHART, Helm, Refused, Values, overlay

DIGEST = "sha256:" + "0" * 64
ON = {"enabled": True}


def green(values: Values) -> Values:
    """The green slot's own values."""
    return {"slots": {"green": values}}


STREAMING: Values = {**ON, "source": "kafka://a/rows", "sink": "kafka://a/scores"}
CASES: dict[str, tuple[Values, str]] = {
    "mode off": (green({"mode": False}), "slots.green.mode is the boolean false"),
    "mode on": (green({"mode": True}), "slots.green.mode is the boolean true"),
    "route url without a route": ({"verify": {"routeUrl": "http://traefik.traefik.svc"}}, "no route is on: turn on"),
    "no model": ({"slotDefaults": {"model": {"name": ""}}}, "set slotDefaults.model.name"),
    "active absent": (
        {"activeSlot": "green", "slots": {"green": {"mode": "absent"}}},
        "stage it first with --set slots.green.mode=serve",
    ),
    "active standby": ({"slots": {"blue": {"mode": "standby"}}}, "activeSlot is blue, whose mode is standby"),
    "latest": (green({"image": {"tag": "latest"}}), "set slots.green.image.tag to a version"),
    "latest with digest": (green({"image": {"tag": f"latest@{DIGEST}"}}), "uses the image tag latest"),
    "no tag": (green({"image": {"tag": ""}}) | {"slotDefaults": {"image": {"tag": ""}, "model": {"name": "m"}}}, "nei"),
    "not pinned": (green({"image": {"tag": ""}}), "slots.green does not pin its image"),
    "init without uri": (green({"model": {"source": "init"}}), "set slots.green.model.uri"),
    "oci without uri": (green({"model": {"source": "oci"}}), "set slots.green.model.uri"),
    "uri of image": (green({"model": {"uri": "s3://m/iris"}}), "set slots.green.model.source to init or oci"),
    "import without a version": (
        green({"model": {"source": "init", "uri": "hf://acme/iris@1a2b/model.joblib", "version": ""}}),
        "set slots.green.model.version",
    ),
    "import with a digest": (
        green({"model": {"source": "init", "uri": "mlflow:models:/iris/2", "sha256": "0" * 64, "version": 2}}),
        "leave others, sha256 and signatureKeysSecret empty",
    ),
    "mutable uri": (
        {"gate": {"requireDigest": True}} | green({"model": {"source": "init", "uri": "s3://m/iris"}}),
        "set slots.green.model.sha256",
    ),
    "mutable oci": (
        {"gate": {"requireDigest": True}} | green({"model": {"source": "oci", "uri": "registry/iris:2"}}),
        "write it as image@sha256",
    ),
    "two autoscalers": (
        green({"autoscaling": ON, "keda": {**ON, "triggers": [{"type": "cpu", "metadata": {}}]}}),
        "turn one off",
    ),
    "cpu without request": (
        green({"autoscaling": ON, "resources": {"requests": {"cpu": None}}}),
        "set slots.green.resources.requests.cpu",
    ),
    "memory without request": (
        green({"autoscaling": {**ON, "memoryUtilization": 80}, "resources": {"requests": {"memory": None}}}),
        "set slots.green.resources.requests.memory",
    ),
    "fewest above most": (green({"autoscaling": {**ON, "minReplicas": 20}}), "raise maxReplicas"),
    "nothing to scale by": (
        green({"autoscaling": {**ON, "cpuUtilization": 0}}),
        "autoscaling has no metric to scale by",
    ),
    "keda without address": (green({"keda": {**ON, "inflight": 4}}), "set slots.green.keda.prometheusAddress"),
    "keda without trigger": (green({"keda": ON}), "keda has no metric to scale by"),
    "keda fewest above most": (
        green({"keda": {**ON, "minReplicas": 20, "triggers": [{"type": "cpu", "metadata": {}}]}}),
        "keda.minReplicas is above maxReplicas",
    ),
    "autoscaled to nothing": (
        green({"mode": "standby", "standbyReplicas": 0, "autoscaling": ON}),
        "slots.green.standbyReplicas is 0",
    ),
    "budget of none": (green({"podDisruptionBudget": {"maxUnavailable": 0}}), "would block every node drain"),
    "budget of no percent": (green({"podDisruptionBudget": {"maxUnavailable": "0%"}}), "would block every node drain"),
    "rollout stands": (green({"strategy": {"maxSurge": 0, "maxUnavailable": 0}}), "set maxSurge or maxUnavailable"),
    "workers above gpus": (green({"gpu": ON, "config": {"workers": 2}}), "set slots.green.config.workers to auto"),
    "scraped twice": (
        {"podMonitor": ON} | green({"scrapeAnnotations": True}),
        "scrapeAnnotations and podMonitor are both on",
    ),
    "metrics without key": (
        {"podMonitor": ON} | green({"config": {"protectMetrics": True}}),
        "set podMonitor.authorization.name",
    ),
    "auth without keys": (green({"auth": ON}), "set slots.green.auth.existingSecret"),
    "auth without the gate's key": (green({"auth": {**ON, "existingSecret": "keys"}}), "set gate.apiKeySecret.name"),
    "slot label": (green({"podLabels": {"berth.dev/slot": "blue"}}), "podLabels sets berth.dev/slot"),
    "setting as variable": (
        green({"extraEnv": [{"name": "BERTH_WORKERS", "value": "2"}]}),
        "extraEnv sets BERTH_WORKERS",
    ),
    "experiment's file as variable": (
        green(
            {
                "experiment": {"experiments": [{"name": "q4", "model": "iris", "arms": [{"model": "iris@1"}]}]},
                "extraEnv": [{"name": "BERTH_EXPERIMENT_FILE", "value": "/tmp/x"}],
            }
        ),
        "extraEnv sets BERTH_EXPERIMENT_FILE, which slots.green.experiment sets itself",
    ),
    "arm that nobody serves": (
        green({"experiment": {"experiments": [{"name": "q4", "model": "iris", "arms": [{"model": "iris@9"}]}]}}),
        "iris@9 of the experiment q4 is not served",
    ),
    "gate never passes": ({"gate": {"minReady": 3}}, "lower gate.minReady"),
    "claim of one node": (
        {"slotDefaults": {"model": {"source": "pvc", "existingClaim": "models"}}},
        "both slots mount the claim models",
    ),
    "canary to nobody": (
        {"httpRoute": {**ON, "parentRefs": [{"name": "web"}]}, "canary": {"weight": 5}} | green({"mode": "absent"}),
        "set slots.green.mode=serve first",
    ),
    "mirror that Traefik has not": (
        {"httpRoute": {**ON, "parentRefs": [{"name": "traefik-gateway"}]}, "canary": {"mirrorPercent": 5}}
        | green({"mode": "serve"}),
        "Traefik does not mirror requests of an HTTPRoute",
    ),
    "mirror to standby": (
        {"istio": {**ON, "hosts": ["a"]}, "canary": {"mirrorPercent": 5}} | green({"mode": "standby"}),
        "canary sends requests to green, whose mode is standby",
    ),
    "analysis without verify": (
        {"verify": {"enabled": False}, "canary": {"analysis": ON}},
        "set verify.enabled=true, or canary.analysis.enabled=false",
    ),
    "canary without scales": (
        {"ingress": {**ON, "hosts": [{"host": "a", "paths": [{"path": "/", "pathType": "Prefix"}]}]}}
        | {"canary": {"headers": [{"name": "X-Slot", "value": "next"}]}},
        "turn on httpRoute, istio or traefik",
    ),
    "ingress without host": ({"ingress": ON}, "set ingress.hosts"),
    "route without gateway": ({"httpRoute": ON}, "set httpRoute.parentRefs"),
    "istio without host": ({"istio": ON}, "set istio.hosts"),
    "traefik without host": ({"traefik": ON}, "set traefik.hosts"),
    "scoring without files": ({"scoring": ON}, "set scoring.input and scoring.output"),
    "streaming without addresses": ({"streaming": ON}, "set streaming.source and streaming.sink"),
    "exactly-once over two clusters": (
        {"streaming": {**STREAMING, "guarantee": "exactly-once", "sink": "kafka://b/scores"}},
        "give streaming.source and streaming.sink the same kafka://BROKERS/",
    ),
    "streaming behind a policy": (
        {"streaming": STREAMING, "networkPolicy": ON},
        "add one to networkPolicy.extraEgress",
    ),
    "more consumers than keda's maximum": (
        {"streaming": {**STREAMING, "replicas": 3, "keda": {"lagThreshold": 1, "maxReplicas": 2}}},
        "raise maxReplicas",
    ),
    "vault without store": ({"externalSecrets": ON}, "set externalSecrets.secretStoreRef.name"),
    "secret twice": (
        {"apiKeys": {"ann": "0" * 64}}
        | {"externalSecrets": {**ON, "secretStoreRef": {"name": "vault"}, "apiKeysPath": "keys"}},
        "the same Secret would come from values and from externalSecrets",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refusal_names_the_fix(helm: Helm, case: str) -> None:
    change, words = CASES[case]
    lines = [line for line in helm.refusal(overlay(BOTH, change)).splitlines() if line.startswith("berth: ")]
    assert any(words in line for line in lines), lines


def written_reasons() -> list[str]:
    """Every reason of the template as a regular expression."""
    template = (CHART / "templates" / "refusals.yaml").read_text()
    formats = re.findall(r'append \$reasons \(?(?:printf )?"([^"]+)"', template)
    assert len(formats) == template.count("append $reasons")
    return [re.sub("%[svd]", ".*", re.escape(each)) for each in formats]


def test_every_refusal_has_a_case(helm: Helm) -> None:
    said = "\n".join(helm.refusal(overlay(BOTH, change)) for change, _ in CASES.values())
    assert [reason for reason in written_reasons() if not re.search(reason, said)] == []


def test_reasons_are_told_at_once(helm: Helm) -> None:
    both = overlay(BOTH, {"ingress": ON, "scoring": ON})
    assert helm.refusal(both).count("berth: ") == 2


def test_messages_wrap(helm: Helm) -> None:
    with pytest.raises(Refused) as refused:
        helm.render({"slotDefaults": {"model": {"name": ""}}})
    lines = str(refused.value).splitlines()
    said = lines[lines.index(next(line for line in lines if line.startswith("berth: "))) :]
    assert len(said) > 1
    assert max(map(len, said)) < 110


def test_refusals_stand_in_one_template() -> None:
    elsewhere = [path.name for path in (CHART / "templates").iterdir() if "fail " in path.read_text()]
    assert elsewhere == ["refusals.yaml"]


def test_a_bare_switch_fails_and_says_how(helm: Helm) -> None:
    message = helm.refusal({"activeSlot": "green"})
    assert "--reset-then-reuse-values" in message
    assert "slots.green.mode=serve" in message
