"""The image for real: built from a clean checkout, tried, pushed, signed, verified, pulled by digest.

Needs a builder (docker, podman or buildah, or IMAGE_BUILDER) and docker or podman; the registry is Debian's
docker-registry on this machine, signed with a key pair of the test's own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from image.scripts import ROOT, ci, find, load_script, make_keys
from live.server import wait_until

NAME = "localhost/berth-test:serve"
MODELS = "localhost/berth-test:models"
VERSION = load_script("release-check").read_versions(ROOT)["pyproject.toml"]
# What the tests name, and what ci/release-image names.
NAMES = [
    NAME,
    f"{NAME}-changed",
    f"{NAME}-other",
    MODELS,
    f"localhost/berth:{VERSION}",
    f"localhost/berth:{VERSION}-samples",
]


ENGINE = find("engine")
MISSING = [program for program in ("docker-registry", "crane", "cosign", "helm") if shutil.which(program) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ENGINE, reason="no docker or podman that works here, or nothing that builds images"),
]
needs_registry = pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean checkout: nothing in it that git does not know."""
    folder = tmp_path_factory.mktemp("checkout") / "berth"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    return folder


def check_engine() -> None:
    """Skip where the engine starts no container at all: the base, which is here by now, does nothing but end."""
    base = "docker.io/library/python:3.11-slim-bookworm"
    done = subprocess.run([ENGINE, "run", "--rm", "--network", "none", base, "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{ENGINE} starts no containers here: {done.stderr.strip().splitlines()[-1]}")


def is_there(name: str) -> bool:
    """Whether the engine has an image of that name."""
    return subprocess.run([ENGINE, "image", "inspect", name], capture_output=True).returncode == 0


def forget(name: str) -> None:
    """Take one name away; the image keeps its others, and its layers. Of one argument podman takes all names away."""
    words = ["untag", name, name] if ENGINE == "podman" else ["rm", name]
    subprocess.run([ENGINE, "image", *words], capture_output=True)


@pytest.fixture(scope="module")
def image(checkout: Path) -> Iterator[str]:
    """The serving image of that checkout; the names made here go, the layers stay for the next build."""
    names = [name for name in NAMES if not is_there(name)]
    try:
        built = ci("build-image", "serve", NAME, cwd=checkout)
        check_engine()
        yield built
    finally:
        for name in names:
            forget(name)


def test_it_keeps_its_promises(checkout: Path, image: str) -> None:
    # A busy machine starts slowly; the promise of five seconds is the script's own default.
    said = ci("smoke", image, "--ready-seconds", "60", cwd=checkout)
    assert "ok  it is not larger than 400 MB" in said
    assert "ok  SIGTERM loses none of them: served 12" in said


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text("utf-8") + text, "utf-8")


def test_a_change_of_code_keeps_every_layer_below_it(checkout: Path, image: str) -> None:
    def layers(name: str) -> list[str]:
        form = "{{range .RootFS.Layers}}{{.}} {{end}}"
        return subprocess.run(
            [ENGINE, "image", "inspect", name, "--format", form], check=True, capture_output=True, text=True
        ).stdout.split()

    append(checkout / "image" / "berth" / "errors.py", "# changed\n")
    changed = layers(ci("build-image", "serve", f"{NAME}-changed", cwd=checkout))
    before = layers(image)
    assert changed[:-1] == before[:-1]
    assert changed[-1] != before[-1]


def kept_dependencies() -> set[str]:
    """The images of what lies below the code that ci/build-image has made, now or before."""
    command = [ENGINE, "image", "ls", "--filter", "reference=localhost/berth-dependencies"]
    listed = subprocess.run([*command, "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True)
    return set(listed.stdout.split())


@pytest.mark.skipif(ENGINE == "docker", reason="BuildKit needs no such image")
def test_dependencies_are_kept_until_they_change(checkout: Path, image: str) -> None:
    before = kept_dependencies()
    assert before
    append(checkout / "image" / "berth" / "models" / "model.py", "# changed\n")
    ci("build-image", "serve", f"{NAME}-changed", cwd=checkout)
    assert kept_dependencies() == before
    pins = checkout / "image" / "requirements-torch.txt"
    text = pins.read_text("utf-8")
    append(pins, f"# {uuid.uuid4()}\n")  # nothing that an earlier run has built
    ci("build-image", "serve", f"{NAME}-changed", cwd=checkout)
    (made,) = kept_dependencies() - before
    forget(made)
    assert kept_dependencies() == before
    pins.write_text(text, "utf-8")


def test_a_model_is_baked_in_with_three_lines(image: str, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store / "iris", tmp_path / "models" / "iris")
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nCOPY models /models\nENV BERTH_MODELS=iris@1\n", "utf-8")
    build = os.environ.get("IMAGE_BUILDER") or find("builder")
    own = Path(build).name not in ("docker", "podman", "buildah")
    words = [MODELS, str(tmp_path)] if own else ["build", "-t", MODELS, str(tmp_path)]
    subprocess.run([build, *words], check=True, capture_output=True)
    command = [ENGINE, "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", MODELS, "verify", "iris@1"]
    assert "ok      iris@1" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """A registry on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yml")
        storage = f"{{filesystem: {{rootdirectory: {folder}/data}}}}"
        config.write_text(f"version: 0.1\nstorage: {storage}\nhttp: {{addr: {address}}}\n", "utf-8")
        command = ["docker-registry", "serve", str(config)]
        with Path(folder, "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                wait_until(lambda: _listens(address), "the registry")
                yield address
            finally:
                process.terminate()


def _listens(address: str) -> bool:
    host, port = address.split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def published(checkout: Path, image: str, registry: str, keys: dict[str, str]) -> str:
    """The digested name of the image, pushed and not signed."""
    return ci("publish", "image", image, f"{registry}/berth:1", cwd=checkout, environ=keys)


@needs_registry
def test_image_and_chart_are_released_once_and_verified(
    checkout: Path, image: str, published: str, registry: str, keys: dict[str, str], tmp_path: Path
) -> None:
    repository, reference = f"{registry}/berth", published
    assert reference.startswith(f"{repository}@sha256:")
    ci("verify", "image", reference, cwd=checkout, fails=True, environ=keys)  # not signed yet
    sbom = tmp_path / "sbom.json"
    sbom.write_text(ci("sbom", image, cwd=checkout), "utf-8")
    ci("publish", "sign", reference, sbom, cwd=checkout, environ=keys)
    assert ci("verify", "image", reference, cwd=checkout, environ=keys) == f"ok  {reference}"

    again = ci("publish", "image", f"{NAME}-changed", f"{repository}:1", cwd=checkout, environ=keys)
    assert again == reference  # the same commit, tried again: what is published stays

    archive = ci("package-chart", reference, tmp_path, cwd=checkout, environ=keys)
    chart = ci("publish", "chart", archive, f"oci://{registry}/charts", cwd=checkout, environ=keys)
    ci("publish", "sign", chart, cwd=checkout, environ=keys)
    assert ci("verify", "chart", chart, reference, cwd=checkout, environ=keys) == f"ok  {chart}"

    set_name = ["--set", "slotDefaults.model.name=iris"]
    command = ["helm", "template", "iris", f"oci://{chart}", "--plain-http", *set_name]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"image: {repository}:{VERSION}@{reference.split('@')[1]}\n" in rendered


@needs_registry
def test_another_commit_cannot_take_a_published_name(checkout: Path, published: str, keys: dict[str, str]) -> None:
    other = ci("build-image", "serve", f"{NAME}-other", cwd=checkout, environ={"REVISION": "0" * 40})
    name = f"{published.partition('@')[0]}:1"
    said = ci("publish", "image", other, name, cwd=checkout, fails=True, environ=keys)
    assert "versions never change" in said


@needs_registry
def test_the_samples_are_released_by_the_scripts_that_the_workflow_calls(
    checkout: Path, image: str, registry: str, keys: dict[str, str], tmp_path: Path
) -> None:
    environ = {"REPOSITORY": f"{registry}/released", "CHARTS": f"oci://{registry}/released", "PYTHON": sys.executable}
    environ |= keys | {"SCAN": "no", "READY_SECONDS": "60"}  # a scan needs today's list of holes
    words = ("samples", VERSION, tmp_path)
    ci("release-image", *words, cwd=checkout, environ=environ)
    joined = ci("release-index", *words, cwd=checkout, environ=environ)
    chart = ci("release-chart", joined, tmp_path, cwd=checkout, environ=environ)
    assert {"samples.ref", "chart.ref"} <= {path.name for path in tmp_path.glob("*.ref")}
    command = ["crane", "digest", f"{registry}/released:{VERSION}-samples"]
    assert joined == f"{registry}/released@{subprocess.check_output(command, text=True).strip()}"
    assert chart.startswith(f"{registry}/released/berth@sha256:")
