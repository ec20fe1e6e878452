"""From MLflow to a slot: `@champion` is proposed, signed, mounted as an image and switched to; unsigned it is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.kube import CHART, SMALL, Namespace, Release, Values, eventually
from models.test_signing import write_key
from proposing import Proposals, new_proposals
from tracking_server import running_tracking

# The serving image with the extra `sign` (ci/build-image serve TAG -- --build-arg EXTRAS=sign).
REPOSITORY, _, TAG = os.environ.get("TEST_SIGN_IMAGE", "").rpartition(":")
REGISTRY = os.environ.get("TEST_REGISTRY", "")
CHAMPION = "mlflow:models:/churn@champion"
_PINNED: Values = {"image": {"tag": TAG}}
PEOPLES: Values = {
    "slotDefaults": {
        "image": {"repository": REPOSITORY, "tag": TAG},
        "replicas": 1,
        "model": {"source": "oci", "name": "churn", "signatureKeysSecret": "model-signers"},
    },
    "slots": {"blue": _PINNED, "green": _PINNED},
    "gate": {"timeoutSeconds": 25},
}
pytestmark = pytest.mark.skipif(not (TAG and REGISTRY), reason="set TEST_SIGN_IMAGE and TEST_REGISTRY")


@dataclass(frozen=True)
class Pipeline:
    """The repository of a release's values, the key of the team, and the release."""

    proposals: Proposals
    key: Path
    release: Release

    def stage(self, version: str, *, signed: bool) -> Values:
        """Propose @champion as that version, merge it, and apply it: the values in force."""
        given = {"SIGN_KEY": str(self.key)} if signed else {}
        values = self.proposals.propose(CHAMPION, "churn", version, **given).values
        self.proposals.commit(values)
        self.upgrade(values)
        return values

    def upgrade(self, values: Values, *flags: str) -> str:
        """Apply the values that were merged, beside people's own."""
        words = ("upgrade", "--install", self.release.name, str(CHART), "--timeout=150s", *flags)
        return self.release.helm(*words, values=[SMALL, PEOPLES, values])


@pytest.fixture(scope="module")
def pipeline(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """An MLflow whose `churn` has slopes 2 and 3, and a release whose blue slot has the first, signed."""
    folder = tmp_path_factory.mktemp("pipeline")
    key = write_key(folder / "team.pem", ec.generate_private_key(ec.SECP256R1()))
    namespace.kubectl("create", "secret", "generic", "model-signers", f"--from-file=keys.pem={key.with_suffix('.pub')}")
    with running_tracking(folder, str(folder / "files")) as tracking:
        tracking.log("2")
        tracking.log("3")
        tracking.log("alias", "1")
        models = f"{REGISTRY}/{namespace.name}"
        # green is live while nothing is installed, so that blue gets the first proposal.
        values = {"activeSlot": "green", "slots": {"green": {"mode": "absent", "model": {"name": "churn"}}, "blue": {}}}
        environ = {"MLFLOW_TRACKING_URI": tracking.url, "MODELS": models}
        proposals = new_proposals(folder / "repository", values, environ)
        first = proposals.propose(CHAMPION, "churn", "1", SIGN_KEY=str(key)).values
        proposals.commit(first | {"activeSlot": "blue"})
        pipeline = Pipeline(proposals, key, Release(namespace, "churn"))
        pipeline.upgrade(first | {"activeSlot": "blue"}, "--wait")
        tracking.log("alias", "2")
        yield pipeline
        pipeline.release.remove()


def answers(release: Release, slope: float) -> bool:
    """Whether the active Service's model has that slope."""
    answer = release.namespace.client().ask(f"{release.url}/invocations", {"inputs": [[5.0]]})
    return answer.status == 200 and round(answer.json()["predictions"][0], 6) == 5 * slope


def test_the_champion_is_switched_to_and_an_unsigned_one_is_refused(pipeline: Pipeline) -> None:
    release = pipeline.release
    eventually(lambda: answers(release, 2), "the first champion serves", 30)
    values = pipeline.stage("2", signed=True)
    assert values["slots"]["green"]["model"]["uri"].startswith(f"{REGISTRY}/{release.namespace.name}/churn@sha256:")
    release.ready("green")
    (volume,) = [v for v in release.pods("green")[0]["spec"]["volumes"] if v["name"] == "models"]
    assert volume["image"]["reference"] == values["slots"]["green"]["model"]["uri"]
    assert answers(release, 2)
    switched = values | {"activeSlot": "green"}
    pipeline.proposals.commit(switched)
    pipeline.upgrade(switched)
    assert release.active_slot() == "green"
    eventually(lambda: answers(release, 3), "the new champion serves", 10)

    values = pipeline.stage("3", signed=False)
    assert values["slots"]["blue"]["model"]["version"] == "3"
    done = release.try_helm(
        *("upgrade", release.name, str(CHART), "--timeout=150s"),
        values=[SMALL, PEOPLES, values | {"activeSlot": "blue"}],
    )
    assert done.returncode != 0
    told = (done.stdout + done.stderr).replace("\\n", "\n")
    (sentence,) = {line[line.index("REFUSED") :] for line in told.splitlines() if "REFUSED: " in line}
    print(sentence)
    assert "a model of slot blue cannot be loaded: churn@3: is not signed: it has no model.sig" in sentence
    assert release.active_slot() == "green"
    assert answers(release, 3)
