"""Chart and image of the release before, of this one, and back, under load.

TEST_PREVIOUS is a checkout of the release before, whose image TEST_PREVIOUS_IMAGE names (ci/test-cluster makes both).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cluster.faults import Fault, Stopwatch
from cluster.kube import REPOSITORY, ROOT, SMALL, TAG, Release
from cluster.load import load
from cluster.two_pods import name_of, wait_for_two

BEFORE = Path(os.environ.get("TEST_PREVIOUS", ""))
BEFORE_TAG = os.environ.get("TEST_PREVIOUS_IMAGE", "").rpartition(":")[2]

pytestmark = pytest.mark.skipif(not BEFORE_TAG, reason="TEST_PREVIOUS_IMAGE is unset: no release before this one")


def set_release(release: Release, command: str, tree: Path, tag: str, *flags: str) -> bool:
    """Install or upgrade with a checkout's chart and an image, and wait for two pods; whether these are new."""
    before = {name_of(pod) for pod in release.pods("blue")}
    image = {"image": {"repository": REPOSITORY, "tag": tag}}
    slots = {"slotDefaults": image, "slots": {"blue": image, "green": image}}
    install = tree / "values-examples" / "blue-green-1-install.yaml"
    release.helm(command, release.name, str(tree / "chart"), "--timeout=150s", *flags, values=[install, SMALL, slots])
    release.ready("blue")
    wait_for_two(release)
    return {name_of(pod) for pod in release.pods("blue")} != before


def says_that_pods_restart() -> bool:
    """Whether the changelog has a new line that says so."""
    new, old = ((tree / "CHANGELOG.md").read_text("utf-8") for tree in (ROOT, BEFORE))
    return any("restarts pods" in text for text in set(new.splitlines()) - set(old.splitlines()))


@pytest.mark.slow
def test_the_release_before_and_back(release: Release) -> None:
    set_release(release, "install", BEFORE, BEFORE_TAG, "--wait")
    with load(release.namespace.client(), release.url) as counts:
        time.sleep(2)
        chart_restarts = set_release(release, "upgrade", ROOT, BEFORE_TAG)
        assert set_release(release, "upgrade", ROOT, TAG)
        watch = Stopwatch()
        # The way back is as long: an image that is newer than its chart, and then neither.
        set_release(release, "upgrade", BEFORE, TAG)
        assert set_release(release, "upgrade", BEFORE, BEFORE_TAG)
        seconds = watch.seconds
        time.sleep(2)
    what = "first the chart, then the image goes from the release before to this one, and back"
    Fault("18", what, "0 failed; pods restart only where the changelog says so").record(counts, seconds)
    assert counts["failed"] == 0, counts["faults"]
    if chart_restarts:
        assert says_that_pods_restart(), "the new chart restarts pods, and the changelog does not say so"
