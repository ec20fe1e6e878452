"""Values that make everything the chart can make, and settings as far from their defaults as they go."""

from helm_chart import BOTH, Values, overlay

ON = {"enabled": True}
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
    "maxWaitMs": 3600000,
    "computeSlots": 1024,
    "maxBodyBytes": 2**40,
    "maxRows": 2**40,
    "requestTimeoutSeconds": 86400,
    "stuckSeconds": 86400,
    "gracefulTimeoutSeconds": 86400,
    "pickle": "off",
    "pickleAllow": ["package.module:Name"],
    "corsOrigins": ["https://app.example.com"],
    "allowCode": True,
    "versionPolicy": "strict",
    "loadSeconds": 86400,
    "loadMemoryBytes": 2**40,
    "exitOnLoadFailure": True,
    "protectMetrics": True,
    "logLevel": "error",
    "logFormat": "text",
    "payloadLog": "/tmp/payloads",
}

# Every key of an experiment.
ARMS = [{"model": "iris@1", "weight": 90}]
EXPERIMENT: Values = {
    "experiments": [
        {
            "name": "q4",
            "model": "best",
            "arms": ARMS,
            "unit": "header:X-User-Id",
            "policy": "thompson",
            "seed": "q4",
            "epsilon": 0.1,
            "floor": 0.01,
            "minimumRewards": 100,
            "halfLifeDays": 0,
            "shadow": {"model": "iris@1", "share": 0.2},
        }
    ],
    "stateClaim": "state",
}

# Everything that the chart can make, at once.
EVERYTHING: Values = overlay(
    BOTH,
    {
        "slotDefaults": {
            "model": {
                "source": "pvc",
                "uri": "s3://models/store",
                "sha256": KEY,
                "subPath": "store",
                "signatureKeysSecret": "team",
            },
            "watch": {"minutes": 10080, "rowsPerSecond": 1000000},
            "experiment": EXPERIMENT,
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
        "gate": {"apiKeySecret": {"name": "gate-key"}, "maxLatencyMs": 50, "maxDrift": 1.5, "requireAgreement": True},
        "feedback": {"existingSecret": "receipts", "key": "keys"},
        "grpc": ON,
        "service": {"type": "LoadBalancer", "nodePort": 30123, "sessionAffinity": "ClientIP"},
        "scoring": {**ON, "input": "/data/in.csv", "output": "/data/out.csv", "existingClaim": "data"},
        "streaming": {
            **ON,
            "source": "redis://cache/rows",
            "sink": "redis://cache/scores?maxlen=1000",
            "deadLetter": "rows-dead",
            "group": "g",
            "existingSecret": "broker",
            "keda": {"lagThreshold": 1000, "triggerAuthentication": "broker"},
        },
        "apiKeys": {"ann": KEY},
        "storeCredentials": {"AWS_ACCESS_KEY_ID": "id-of-ann"},
        "serviceAccount": {"create": True},
        "networkPolicy": {
            **ON,
            "ingressFrom": [{"namespaceSelector": {}}],
            "extraEgress": [{"ports": [{"port": 6379, "protocol": "TCP"}]}],
        },
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
