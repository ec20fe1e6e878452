"""The pure parts of the scripts that package, publish, list and propose."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from image.scripts import ROOT, load_script

DIGEST = "sha256:" + "5" * 64


def test_the_chart_is_pinned_to_one_image() -> None:
    values = (ROOT / "chart" / "values.yaml").read_text("utf-8")
    pinned = load_script("package-chart").pin_image(values, "example.com/berth", "1.2.3", DIGEST)
    assert "    repository: example.com/berth\n" in pinned
    assert f'    tag: "1.2.3@{DIGEST}"\n' in pinned
    assert '    digest: ""\n' in pinned
    assert len(pinned.splitlines()) == len(values.splitlines())


def test_pinning_ends_when_the_values_have_changed_their_form() -> None:
    with pytest.raises(SystemExit, match="0 lines fit"):
        load_script("package-chart").pin_image("slotDefaults: {}\n", "example.com/berth", "1.2.3", DIGEST)


@pytest.mark.parametrize("reference", ["berth:1.0.0", "berth", f"berth@{DIGEST[:-1]}", f"berth:1 @{DIGEST}"])
def test_only_digests_are_signed_and_verified(reference: str) -> None:
    with pytest.raises(SystemExit, match="want NAME@sha256"):
        load_script("registry.py").check_digested(reference)
    load_script("registry.py").check_digested(f"localhost:5000/berth:1.0.0@{DIGEST}")


def test_the_idle_slot_gets_the_model_and_the_live_one_stays() -> None:
    live = {"mode": "serve", "image": {"tag": "1.0.0"}, "model": {"name": "iris", "version": "1"}}
    values = {"activeSlot": "blue", "slots": {"blue": live, "green": {"mode": "absent"}}}
    assert load_script("bump-slot").bump(values, "2", "example.com/models/iris@" + DIGEST) == "green"
    assert values["activeSlot"] == "blue"
    assert values["slots"] == {
        "blue": {"mode": "serve", "image": {"tag": "1.0.0"}, "model": {"name": "iris", "version": "1"}},
        "green": {**live, "model": {"name": "iris", "version": "2", "uri": "example.com/models/iris@" + DIGEST}},
    }


def test_a_values_file_of_people_is_not_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("activeSlot: blue\nslots: {blue: {mode: serve}}\nreplicas: 3 # mine\n", "utf-8")
    before = file.read_text("utf-8")
    command = [sys.executable, str(ROOT / "ci" / "bump-slot"), str(file), "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "and nothing else" in done.stderr
    assert file.read_text("utf-8") == before


def test_the_sbom_names_what_scanners_look_for() -> None:
    labels = {"title": "berth", "version": "1.0.0", "source": "https://e.org", "created": "2026-01-01T00:00:00Z"}
    labels["licenses"] = "Apache-2.0"
    image = {"Id": DIGEST, "Config": {"Labels": {f"org.opencontainers.image.{key}": labels[key] for key in labels}}}
    lines = [["pypi", "scikit-learn", "1.9.1", "BSD-3-Clause"], ["deb", "libc6", "2.36-9+deb12u1", "amd64"]]
    lines += [["generic", "python", "3.11.2", ""], ["os", "debian", "12", "x86_64"]]
    document = load_script("sbom").document(image, lines)
    assert document == json.loads(json.dumps(document))
    found = [ref["referenceLocator"] for package in document["packages"] for ref in package["externalRefs"]]
    assert found == [
        "pkg:pypi/scikit-learn@1.9.1",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12",
        "pkg:generic/python@3.11.2",
    ]
    assert len({package["SPDXID"] for package in document["packages"]}) == 4
    assert {line["relatedSpdxElement"] for line in document["relationships"]} == {
        package["SPDXID"] for package in document["packages"]
    }


def test_release_notes_are_the_newest_part_and_the_digests(tmp_path: Path) -> None:
    (tmp_path / "serve.ref").write_text(f"example.com/berth@{DIGEST}\n", "utf-8")
    (tmp_path / "serve-amd64.ref").write_text("left out\n", "utf-8")
    done = subprocess.run([str(ROOT / "ci/release-notes"), str(tmp_path)], check=True, capture_output=True, text=True)
    assert f"| serve | `example.com/berth@{DIGEST}` |" in done.stdout
    assert "left out" not in done.stdout
    assert "## " not in done.stdout
    assert "First version" in done.stdout
