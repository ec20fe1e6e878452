"""The CronJob scores a file of a claim with the slot's model."""

from __future__ import annotations

from cluster.kube import EXAMPLES, REPOSITORY, TAG, Release, Values, restricted_container
from cluster.kube import restricted_pod as pod

ROWS = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n"
SCORING: Values = {
    "scoring": {"enabled": True, "input": "/data/in.csv", "output": "/data/out.csv", "existingClaim": "data"}
}


def test_a_run_of_the_cron_job_scores_a_file(release: Release) -> None:
    namespace = release.namespace
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    sleep = ["python", "-c", "import time; time.sleep(86400)"]
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    desk = restricted_container("desk", f"{REPOSITORY}:{TAG}", sleep, **mount)
    namespace.apply(claim, pod("desk", [desk], volumes=[volume]))
    namespace.kubectl("wait", "pod/desk", "--for=condition=Ready", "--timeout=60s")
    write = "import sys; open('/data/in.csv', 'w').write(sys.argv[1])"
    namespace.kubectl("exec", "desk", "--", "python", "-c", write, ROWS)
    release.install(EXAMPLES / "quickstart.yaml", SCORING)
    namespace.kubectl("create", "job", f"--from=cronjob/{release.full}-scoring", "today")
    namespace.kubectl("wait", "job/today", "--for=condition=Complete", "--timeout=90s")
    scored = namespace.kubectl("exec", "desk", "--", "python", "-c", "print(open('/data/out.csv').read())")
    header, *rows = scored.split()
    print(scored)
    assert "prediction" in header
    assert [row.split(",")[0] for row in rows] == ["0", "2"] or [row.split(",")[-1] for row in rows] == ["0", "2"]
