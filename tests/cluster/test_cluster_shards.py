"""An Indexed Job of four shards: one pod is deleted, one runs out of memory; the joined output has each row once."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.kube import REPOSITORY, TAG, Namespace, Release, Values, eventually, restricted_container
from cluster.kube import restricted_pod as pod

SHARDS, CHUNK, CHUNKS = 4, 10_000, 60
ROWS = CHUNK * CHUNKS
# The identity. While /data/held is there, it stops in the third chunk of shard 1, and says so with /data/holding; while
# /data/hungry is there, it takes all memory in that of shard 2.
FILL = f"""
import os, pathlib, subprocess
folder = pathlib.Path("/tmp/model")
folder.mkdir()
(folder / "model.py").write_text('''
import pathlib, time

def load(directory):
    held, holding, hungry = (pathlib.Path("/data", name) for name in ("held", "holding", "hungry"))
    def predict(inputs):
        x = inputs["x"][:, 0]
        if len(x) > 100 and x[0] == {CHUNK * (1 + 2 * SHARDS)}:
            holding.touch()
            while held.exists():
                time.sleep(0.1)
        if len(x) > 100 and x[0] == {CHUNK * (2 + 2 * SHARDS)} and hungry.exists():
            hungry.unlink()
            b"x" * (1 << 30)
        return {{"prediction": x}}
    return predict
''')
options = ["--name", "rows", "--version", "1", "--format", "python", "--input", "x:FP64:-1,1", "--store", "/data/store"]
subprocess.run(["berth", "add", str(folder), *options], check=True, env={{**os.environ, "BERTH_ALLOW_CODE": "true"}})
with open("/data/in.csv", "w") as file:
    file.write("x\\n")
    file.writelines(f"{{row}}\\n" for row in range({ROWS}))
pathlib.Path("/data/hungry").touch()
pathlib.Path("/data/held").touch()
pathlib.Path("/data/scores").mkdir()
"""
# Whether every row is there once and in order, and how many shards the run had.
CHECK = f"""
import json, subprocess
subprocess.run(["berth", "score", "--join", "/data/scores", "/data/joined.csv"], check=True, stdout=subprocess.DEVNULL)
lines = open("/data/joined.csv").read().splitlines()
summary = json.load(open("/data/scores/_summary.json"))
whole = [float(line) for line in lines[1:]] == list(map(float, range({ROWS})))
print(json.dumps([lines[0], whole, summary["rows"], summary["failed"], summary["shards"]]))
"""
VALUES: Values = {
    "slotDefaults": {
        "replicas": 1,
        "config": {"allowCode": True},
        "model": {"name": "rows", "version": 1, "source": "pvc", "existingClaim": "data", "subPath": "store"},
        "resources": {"limits": {"memory": "400Mi"}},
    },
    "slots": {"blue": {"mode": "serve"}},
    "scoring": {
        "enabled": True,
        "input": "/data/in.csv",
        "output": "/data/scores",
        "existingClaim": "data",
        "shards": SHARDS,
        "parallelism": SHARDS,
    },
}
VALUES["slotDefaults"]["model"]["claim"] = {"accessModes": ["ReadWriteMany"]}
INDEX = "batch.kubernetes.io/job-completion-index"


@pytest.fixture
def desk(namespace: Namespace) -> Namespace:
    """The namespace, in which the pod `desk` has the claim with the store and the rows."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "64Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    command = ["python", "-c", f"{FILL}\nimport time\npathlib.Path('/tmp/filled').touch()\ntime.sleep(86400)"]
    probe = {"exec": {"command": ["test", "-e", "/tmp/filled"]}, "periodSeconds": 1}
    container = restricted_container("desk", f"{REPOSITORY}:{TAG}", command, readinessProbe=probe, **mount)
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    namespace.apply(claim, pod("desk", [container], volumes=[volume]))
    namespace.kubectl("wait", "pod/desk", "--for=condition=Ready", "--timeout=90s")
    return namespace


def pods_of(namespace: Namespace, index: int) -> list[str]:
    """The pods that an index of the Job has now."""
    return [found["metadata"]["name"] for found in namespace.list("pods", f"job-name=today,{INDEX}={index}")]


def test_a_deleted_and_a_starved_pod_lose_no_row(desk: Namespace, release: Release) -> None:
    release.install(VALUES)
    desk.kubectl("create", "job", f"--from=cronjob/{release.full}-scoring", "today")
    eventually(lambda: bool(pods_of(desk, 1)), "the pod of index 1")
    (deleted,) = pods_of(desk, 1)
    desk.kubectl("wait", f"pod/{deleted}", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
    exec_ = ("exec", "desk", "--", "test", "-e")
    eventually(lambda: not desk.try_kubectl(*exec_, "/data/holding").returncode, "index 1 is in its third chunk", 60)
    desk.kubectl("delete", "pod", deleted, "--grace-period=2")
    desk.kubectl("exec", "desk", "--", "rm", "/data/held")
    desk.kubectl("wait", "job/today", "--for=condition=Complete", "--timeout=150s")
    assert desk.kubectl("exec", "desk", "--", "python", "-c", CHECK).split() == (
        f'["prediction", true, {ROWS}, 0, {SHARDS}]'.split()
    )
    ran = desk.list("pods", "job-name=today")
    assert deleted not in [found["metadata"]["name"] for found in ran]
    # The pod that was deleted is gone; of the others, only index 2 has run twice.
    assert Counter(found["metadata"]["labels"][INDEX] for found in ran) == {"0": 1, "1": 1, "2": 2, "3": 1}
    reasons = [found["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] for found in ran]
    assert Counter(reasons) == {"Completed": SHARDS, "OOMKilled": 1}
