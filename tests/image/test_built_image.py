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
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from image.scripts import ROOT
from live.server import wait_until

NAME = "localhost/berth-test:serve"
MODELS = "localhost/berth-test:models"


def find(what: str) -> str:
    """What ci/containers.sh finds as `builder` or `engine`; empty when it finds none."""
    script = f'. "{ROOT}/ci/containers.sh"; {what}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout.strip()


ENGINE = find("engine")
MISSING = [program for program in ("docker-registry", "crane", "cosign", "helm") if shutil.which(program) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ENGINE, reason="no docker or podman that works here, or nothing that builds images"),
]
needs_registry = pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}")


def ci(
    script: str, *words: str | Path, cwd: Path = ROOT, fails: bool = False, environ: Mapping[str, str] | None = None
) -> str:
    """What a script prints; with `fails`, what it complains of."""
    done = subprocess.run(
        [cwd / "ci" / script, *words], capture_output=True, text=True, env={**os.environ, **(environ or {})}
    )
    assert (done.returncode != 0) == fails, f"{script}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return (done.stderr if fails else done.stdout).strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean checkout: nothing in it that git does not know."""
    folder = tmp_path_factory.mktemp("checkout") / "berth"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def image(checkout: Path) -> Iterator[str]:
    """The serving image of that checkout; the names made here go, the layers stay for the next build."""
    yield ci("build-image", "serve", NAME, cwd=checkout)
    for name in (NAME, f"{NAME}-changed", f"{NAME}-other", MODELS):
        subprocess.run([ENGINE, "image", "untag" if ENGINE == "podman" else "rm", name], capture_output=True)


def test_it_keeps_its_promises(checkout: Path, image: str) -> None:
    # A busy machine starts slowly; the promise of five seconds is the script's own default.
    said = ci("smoke", image, "--ready-seconds", "60", cwd=checkout)
    assert "ok  it is not larger than 400 MB" in said
    assert "ok  SIGTERM loses none of them: answered 12" in said


def test_a_change_of_code_keeps_every_layer_below_it(checkout: Path, image: str) -> None:
    def layers(name: str) -> list[str]:
        form = "{{range .RootFS.Layers}}{{.}} {{end}}"
        return subprocess.run(
            [ENGINE, "image", "inspect", name, "--format", form], check=True, capture_output=True, text=True
        ).stdout.split()

    module = checkout / "image" / "berth" / "errors.py"
    module.write_text(module.read_text("utf-8") + "# changed\n", "utf-8")
    changed = layers(ci("build-image", "serve", f"{NAME}-changed", cwd=checkout))
    before = layers(image)
    assert changed[:-1] == before[:-1]
    assert changed[-1] != before[-1]


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
    """The environment of somebody who may sign."""
    folder = tmp_path_factory.mktemp("keys")
    environ = {"COSIGN_PASSWORD": "", "PLAIN_HTTP": "1"}
    command = ["cosign", "generate-key-pair"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env={**os.environ, **environ})
    return environ | {"COSIGN_KEY": f"{folder}/cosign.key", "COSIGN_PUBLIC_KEY": f"{folder}/cosign.pub"}


@needs_registry
def test_image_and_chart_are_released_once_and_verified(
    checkout: Path, image: str, registry: str, keys: dict[str, str], tmp_path: Path
) -> None:
    repository = f"{registry}/berth"
    reference = ci("publish", "image", image, f"{repository}:1", cwd=checkout, environ=keys)
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
    assert f"{repository}:0.1.0@{reference.split('@')[1]}" in rendered


@needs_registry
def test_another_commit_cannot_take_a_published_name(
    checkout: Path, image: str, registry: str, keys: dict[str, str]
) -> None:
    ci("publish", "image", image, f"{registry}/berth:2", cwd=checkout, environ=keys)
    other = ci("build-image", "serve", f"{NAME}-other", cwd=checkout, environ={"REVISION": "0" * 40})
    said = ci("publish", "image", other, f"{registry}/berth:2", cwd=checkout, fails=True, environ=keys)
    assert "versions never change" in said
