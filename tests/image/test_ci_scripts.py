"""The pure parts of the scripts that package, publish, list and propose."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from image.scripts import ROOT, ci, load_script

DIGEST = "sha256:" + "5" * 64
Deploy = Callable[..., tuple[list[str], dict[str, Any]]]


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
        load_script("registry_tools.py").check_digested(reference)
    load_script("registry_tools.py").check_digested(f"localhost:5000/berth:1.0.0@{DIGEST}")


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


HOSTILE = [
    "s3://models/a,b=c",
    "https://e.org/{a,b}[0].x?y=1,2",
    r"https://e.org/back\slash\,comma",
    "https://e.org/two\nlines: {injected: true}",
    "https://e.org/$(touch x)`touch x`;'\"&|",
    "https://e.org/{{ .Release.Name }}#é☃",
    "--set=activeSlot=green",
]
STUB = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
files = [pathlib.Path(value).read_text() for word, value in zip(words, words[1:]) if word in ("-f", "--values")]
with (here / "calls").open("a") as calls:
    print(json.dumps([words, files]), file=calls)
if words[:2] == ["get", "values"]:
    print((here / "release.json").read_text())
"""
RELEASE = {
    "activeSlot": "blue",
    "slotDefaults": {"image": {"tag": "1.0.0", "digest": ""}},
    "slots": {
        "blue": {"mode": "serve", "image": {"tag": "", "digest": ""}, "model": {"version": "1"}},
        "green": {"mode": "absent", "model": None},
    },
}


@pytest.fixture
def deploy(tmp_path: Path) -> Deploy:
    """deploy(step, NAME=value…): the words of the `helm upgrade` that it runs, and the values file."""
    (tmp_path / "helm").write_text(STUB.format(python=sys.executable), "utf-8")
    (tmp_path / "helm").chmod(0o755)
    (tmp_path / "release.json").write_text(json.dumps(RELEASE), "utf-8")
    given = {"RELEASE": "iris", "NAMESPACE": "models", "CHART": "oci://e.org/charts/berth"}

    def run(step: str, **environ: str) -> tuple[list[str], dict[str, Any]]:
        ci("deploy", step, environ={**given, "PATH": f"{tmp_path}:{os.environ['PATH']}", **environ})
        words, files = json.loads((tmp_path / "calls").read_text("utf-8").splitlines()[-1])
        assert words[:3] == ["upgrade", "iris", "oci://e.org/charts/berth"]
        assert not any(word.startswith("--set") for word in words)
        (values,) = files
        return words, yaml.safe_load(values)

    return run


@pytest.mark.parametrize("text", HOSTILE)
def test_what_people_write_reaches_helm_as_it_is(deploy: Deploy, text: str) -> None:
    words, values = deploy("stage", MODEL_VERSION=text, MODEL_URI=text, IMAGE_TAG=text)
    assert text not in words
    assert values == {
        "slots": {
            "blue": {"image": {"tag": "1.0.0"}},  # pinned to what the release has for it
            "green": {"image": {"tag": text, "digest": ""}, "mode": "serve", "model": {"version": text, "uri": text}},
        }
    }


def test_the_steps_of_a_deployment(deploy: Deploy) -> None:
    assert deploy("stage", MODEL_VERSION="1e3")[1]["slots"]["green"] == {
        "image": {"tag": "1.0.0"},
        "mode": "serve",
        "model": {"version": "1e3"},
    }
    assert deploy("switch", SLOT="green")[1] == {"activeSlot": "green"}
    assert deploy("retire", SLOT="blue")[1] == {"slots": {"green": {"mode": "absent"}}}


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on PATH")
@pytest.mark.parametrize("text", HOSTILE[:3] + HOSTILE[4:6])
def test_what_people_write_reaches_the_pod_as_it_is(deploy: Deploy, tmp_path: Path, text: str) -> None:
    text = text.replace(" ", "")  # the chart refuses white space
    _, values = deploy("stage", MODEL_VERSION="1e3", MODEL_URI=text)
    values["slotDefaults"] = {"model": {"name": "iris"}}
    values["slots"]["green"]["model"]["source"] = "init"
    (tmp_path / "values.json").write_text(json.dumps(values), "utf-8")
    command = ["helm", "template", "iris", str(ROOT / "chart"), "-f", str(tmp_path / "values.json")]
    done = subprocess.run([*command, "-s", "templates/deployment.yaml"], capture_output=True, text=True, check=True)
    green = next(one for one in yaml.safe_load_all(done.stdout) if one["metadata"]["name"].endswith("-green"))
    assert green["spec"]["template"]["spec"]["initContainers"][0]["args"][:4] == [
        "pull",
        text.replace("$(", "$$("),  # Kubernetes reads $$ as one, and $(…) as a variable
        "--into=/models",
        "--models=iris@1e3",
    ]


@pytest.mark.parametrize("name", ["RELEASE", "NAMESPACE", "CHART"])
@pytest.mark.parametrize("text", ["--post-renderer=/bin/sh", "-n", "a b", "a\nb", "$(id)"])
def test_a_release_that_is_an_option_is_refused(name: str, text: str) -> None:
    environ = {"RELEASE": "iris", "NAMESPACE": "models", "CHART": "chart", "SLOT": "blue", name: text}
    told = ci("deploy", "switch", fails=True, environ=environ)
    assert re.match(rf"check-inputs: {name}=\S", told)
    assert len(told.splitlines()) == 1


INPUTS = {
    "RELEASE": (["iris", "iris-2"], ["", "Iris", "-x", "a_b", "a.b", "iris-"]),
    "CHART": (["oci://ghcr.io/berth/charts/berth@" + DIGEST, "chart", "/tmp/x_1/chart"], ["", "--x", "oci://", "a b"]),
    "MODEL_VERSION": (["3", "1.2.0-rc.1+b"], ["", ".3", "a/b", "a b", "3\n", "3,b=c", "{3}", "\\"]),
    "MODEL_URI": (
        ["", "s3://models/store", "https://e.org/x?a=1,2", "ghcr.io/m/iris@" + DIGEST],
        ["a b", "s3://a\nb", "-"],
    ),
    "IMAGE_TAG": (["", "1.0.0", "1.0.0@" + DIGEST], ["1.0.0@sha256:5", "a,b=c", "a\nb", "-a", "$(id)"]),
    "TAG": (["1.0.0", "f" * 40], ["", "a:b", "a b", "a\nslot=green"]),
    "WEIGHTS": (["5", "5,25,50", "1,99"], ["", "0", "100", "5,", ",5", "5 25", "5,25%", "5;id", "-5"]),
    "TRAIN_IMAGE": (
        ["localhost/berth:0.1.0-train", "ghcr.io/a/b@" + DIGEST],
        ["", "--privileged", "a@sha256:5", "a b"],
    ),
    "RECIPE": (["model_store/recipes/rents.py"], ["", "-x.py", "a:b.py", "a b.py", "a.sh", "a\n.py"]),
    "VALUES": (["deploy/iris.yaml"], ["", "--x.yaml", "a b.yaml", "a.json", "$(id).yaml"]),
    "NAME": (["iris", "house-prices"], ["", "../iris", "a/b", "a\nb", "`id`"]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_checked_by_their_pattern(name: str) -> None:
    good, bad = INPUTS[name]
    for text in good:
        ci("check-inputs", name, environ={name: text})
    for text in bad:
        told = ci("check-inputs", name, environ={name: text}, fails=True)
        assert told.startswith(f"check-inputs: {name}="), text
        assert len(told.splitlines()) == 1, text


def test_an_input_without_a_pattern_is_refused() -> None:
    assert "no such input" in ci("check-inputs", "PATH", fails=True)


@pytest.mark.parametrize(
    ("script", "words", "name"),
    [
        ("retrain", ["recipes/x.py", "../iris", "1"], "NAME"),
        ("retrain", ["recipes/x.py", "iris", "1 --privileged"], "VERSION"),
        ("retrain", ["-v.py", "iris", "1"], "RECIPE"),
        ("retrain", ["/a:/b.py", "iris", "1"], "RECIPE"),
        ("retrain", ["mlflow:models:/iris@$(id)", "iris", "1"], "MODEL_SOURCE"),
        ("propose-model", ["--x.yaml", "iris", "1", "e.org/iris"], "VALUES"),
        ("propose-model", ["values.yaml", "iris", "1", "e.org/`id`"], "REFERENCE"),
        ("propose-model", ["values.yaml", "iris", "1", "mlflow:models:/iris@$(id)"], "MODEL_SOURCE"),
    ],
)
def test_what_is_no_input_ends_before_anything_happens(script: str, words: list[str], name: str) -> None:
    environ = {"MODELS": "e.org/models", "TRAIN_IMAGE": "e.org/train"}
    assert ci(script, *words, environ=environ, fails=True).startswith(f"check-inputs: {name}=")


@pytest.mark.parametrize("version", ["1e3", "012", "0x1f", "1_000", "yes", "null", "2026-01-02", "1.10"])
def test_a_version_stays_text_in_the_values_file(tmp_path: Path, version: str) -> None:
    """PyYAML writes 1e3 without quotes, and Helm would read a number."""
    file = tmp_path / "values.yaml"
    file.write_text('activeSlot: blue\nslots: {blue: {mode: serve, model: {version: "1e2"}}}\n', "utf-8")
    for _ in range(2):  # written, and read and written again
        command = [sys.executable, str(ROOT / "ci" / "bump-slot"), str(file), version, "s3://m/{a,b}"]
        subprocess.run(command, check=True, capture_output=True)
        slots = yaml.safe_load(file.read_text("utf-8"))["slots"]
        assert slots["green"]["model"] == {"version": version, "uri": "s3://m/{a,b}"}
        assert re.search(rf"""version: ["']{version}["']$""", file.read_text("utf-8"), re.MULTILINE)
        assert 'version: "1e2"' in file.read_text("utf-8")


@pytest.mark.parametrize(
    ("version", "uri"), [("1\n2", "s3://m"), ("", "s3://m"), ("2", "s3://m\nslots: {}"), ("2", "")]
)
def test_a_slot_is_bumped_only_to_what_is_a_version(tmp_path: Path, version: str, uri: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("activeSlot: blue\nslots: {blue: {mode: serve}}\n", "utf-8")
    before = file.read_text("utf-8")
    command = [sys.executable, str(ROOT / "ci" / "bump-slot"), str(file), version, uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert file.read_text("utf-8") == before


def test_flaky_tests_are_named_and_shown(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    summary = "FAILED tests/test_a.py::test_one - AssertionError\nERROR tests/test_a.py::test_two - OSError\n"
    first.write_text(
        f"..F.\n===== FAILURES =====\nwaited 20 s\n===== short test summary info =====\n{summary}2 failed\n"
    )
    second.write_text("2 passed in 3.0s\n")
    told = ci("print-flaky", first, second)
    assert told.splitlines()[:2] == ["flaky: tests/test_a.py::test_one", "flaky: tests/test_a.py::test_two"]
    assert "waited 20 s" in told
    assert "2 passed in 3.0s" in told
    assert told.splitlines()[-1] == "flaky: 2 in this group"
    first.write_text("5 passed\n")
    assert ci("print-flaky", first, second) == "flaky: 0 in this group"
