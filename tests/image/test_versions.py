"""One version everywhere, and a chart that does not restart pods in silence."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from image.scripts import ROOT, load_script

CHECK = load_script("release-check")
needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on PATH")


def test_package_chart_image_tag_and_changelog_name_one_version() -> None:
    versions = CHECK.read_versions(ROOT)
    assert len(versions) == 7
    assert len(set(versions.values())) == 1, versions


def test_the_image_gets_the_same_version_as_its_label() -> None:
    command = f'. "{ROOT}/ci/containers.sh"; version'
    said = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True).stdout.strip()
    assert said == CHECK.read_versions(ROOT)["pyproject.toml"]
    build = (ROOT / "ci" / "build-image").read_text("utf-8")
    assert '--label "org.opencontainers.image.version=$(version)"' in build


def test_the_newest_part_of_a_changelog() -> None:
    text = "# Changelog\n\n## 1.1.0 (soon)\n\n- restarts\n\n## 1.0.0\n\n- first\n"
    version, said = CHECK.newest_part(text)
    assert version == "1.1.0"
    assert "restarts" in said
    assert "first" not in said


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart that the test may change."""
    return Path(shutil.copytree(ROOT / "chart", tmp_path / "chart"))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{path.name}: {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new), "utf-8")


@needs_helm
def test_a_new_chart_version_restarts_no_pod(chart: Path) -> None:
    about = (chart / "Chart.yaml").read_text("utf-8")
    (chart / "Chart.yaml").write_text(about.replace("0.1.0", "9.9.9"), "utf-8")
    examples = [ROOT / "values-examples" / "production.yaml"]
    assert CHECK.find_restarts(ROOT / "chart", chart, examples) == []


@needs_helm
def test_a_changed_default_that_reaches_the_pods_is_found(chart: Path) -> None:
    change(chart / "values.yaml", "    requestTimeoutSeconds: 30\n", "    requestTimeoutSeconds: 31\n")
    restarts = CHECK.find_restarts(ROOT / "chart", chart, [])
    assert restarts == ["check-berth-blue with the defaults"]
