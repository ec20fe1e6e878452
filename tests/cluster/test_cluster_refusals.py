"""A bad switch is refused before it touches traffic, and the refusal names the next command."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from cluster.kube import EXAMPLES, FLOWER, Namespace, Release, Values

INSTALL, SWITCH = EXAMPLES / "blue-green-1-install.yaml", EXAMPLES / "blue-green-3-switch.yaml"
# One pod a slot is enough here, and nobody waits for what cannot come true.
QUICK: Values = {"slotDefaults": {"replicas": 1}, "gate": {"minReady": 1, "timeoutSeconds": 15}}
# A versicolor that the logistic regression takes for a virginica, and the forest does not.
DISPUTED = {"features": [5.9, 3.2, 4.8, 1.8]}


def green(**model: object) -> Values:
    """Values in which green serves this model."""
    return {"slots": {"green": {"mode": "serve", "model": model}}}


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release whose blue slot serves; each test stages a green slot of its own."""
    release = Release(namespace, "iris")
    release.install(INSTALL, QUICK)
    yield release
    release.remove()


def stage(release: Release, values: Values) -> None:
    """Stage green, unguarded, as that is not what is tested here; blue stays active."""
    release.upgrade(INSTALL, QUICK, values, hooks=False)


def check_refusal(release: Release, *values: Values, says: str, command: str) -> None:
    """The switch fails with the sentence and the command, the selector is as before, and blue answers."""
    told = release.refused(SWITCH, QUICK, *values)
    sentence = next(line for line in told.replace("\\n", "\n").splitlines() if "REFUSED" in line)
    print(sentence)
    assert re.search(says, sentence)
    assert command in sentence
    answer = release.namespace.client().ask(f"{release.url}/predict", FLOWER)
    assert (answer.status, answer.slot) == (200, "blue")


def test_a_slot_that_was_never_staged(blue: Release) -> None:
    check_refusal(blue, says="slot green", command="--set slots.green.mode=serve")


def test_a_slot_that_is_not_ready(blue: Release) -> None:
    missing = green(version=99)
    stage(blue, missing)
    check_refusal(blue, missing, says="slot green", command="--set slots.green.mode=serve")


def test_a_slot_that_is_changed_in_the_same_upgrade(blue: Release) -> None:
    stage(blue, green(version=1))
    blue.ready("green")
    check_refusal(blue, green(version=2), says="fingerprint", command="--set slots.green")


def test_a_slot_that_answers_wrongly(blue: Release) -> None:
    forest = green(name="iris-forest", version=1)
    stage(blue, forest)
    blue.ready("green")
    strict = {"gate": {"requireAgreement": True, "request": DISPUTED}}
    command = "--set gate.requireAgreement=false"
    check_refusal(blue, forest, strict, says="where the live slot returns", command=command)


def test_a_slot_that_cannot_answer_the_sample(blue: Release) -> None:
    forest = green(name="iris-forest", version=1)
    stage(blue, forest)
    blue.ready("green")
    check_refusal(blue, forest, {"gate": {"request": {"petals": [1.0]}}}, says="400", command="gate.request")


def test_a_switch_that_also_retires_the_old_slot(blue: Release) -> None:
    stage(blue, green(version=2))
    blue.ready("green")
    check_refusal(blue, {"slots": {"blue": {"mode": "absent"}}}, says="blue", command="--set activeSlot=green")
