"""What the Dockerfile and the requirements beside it promise, read from the files."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from typing import Any

import pytest

from image.scripts import ROOT, load_script

IMAGE = ROOT / "image"
TEXT = (IMAGE / "Dockerfile").read_text("utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TARGETS = ("train", "serve-gpu", "serve-torch", "serve")
HASHED = sorted(path.name for path in IMAGE.glob("requirements-*.txt") if path.name != "requirements-torch.txt")


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its words, continued lines joined."""
    text = re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in text.splitlines() if line.strip()]


def words(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def entries(name: str) -> dict[str, str]:
    """Package and everything after its name, for a requirements file."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)(\S*==.*\n(?:[ \t]+.*\n)*)", (IMAGE / name).read_text("utf-8"), re.MULTILINE)
    return dict(found)


def test_the_four_targets_are_there_and_serve_is_the_default() -> None:
    stages = [rest.rpartition(" AS ")[2] for rest in words("FROM")]
    assert set(TARGETS) <= set(stages)
    assert stages[-1] == "serve"


def test_every_base_is_one_argument_so_that_it_can_be_pinned() -> None:
    stages = {rest.rpartition(" AS ")[2] for rest in words("FROM")}
    bases = {rest.partition(" AS ")[0] for rest in words("FROM")} - stages
    # Of itself a variant stands on its own dependencies; ci/build-image may name an image of them.
    kept = {f"${{DEPENDENCIES:-with-{target}}}" for target in TARGETS}
    assert bases - kept == {"${BASE_IMAGE}", "scratch"}
    assert {"PYTHON_VERSION=3.11", "DEPENDENCIES="} <= set(words("ARG"))


def test_it_runs_as_a_number_that_is_not_root_in_exec_form() -> None:
    assert set(words("USER")) == {"10001:10001"}
    assert all(rest.startswith("[") for rest in words("ENTRYPOINT") + words("CMD"))
    assert words("STOPSIGNAL") == ["SIGTERM"]
    assert words("EXPOSE") == ["8000"]
    assert words("HEALTHCHECK")[0].endswith('CMD ["berth", "health"]')


def test_a_plain_build_has_the_labels_of_a_release() -> None:
    (labels, *_) = [rest for rest in words("LABEL") if "image.licenses" in rest]
    for name, argument in (("version", "VERSION"), ("revision", "REVISION"), ("source", "SOURCE")):
        assert f'org.opencontainers.image.{name}="${{{argument}}}"' in labels
        assert any(rest.startswith(f"{argument}=") for rest in words("ARG"))
    build = (ROOT / "ci" / "build-image").read_text("utf-8")
    assert f"${{SOURCE:-{next(rest for rest in words('ARG') if rest.startswith('SOURCE='))[7:]}}}" in build


def test_everything_is_installed_by_hash() -> None:
    installs = re.findall(r"pip --python \S+ install ([^&]*)", " ".join(words("RUN")))
    assert len(installs) == 6
    assert all("--require-hashes" in install for install in installs)
    of_torch = [install for install in installs if install.strip().endswith("-r requirements-torch.txt")]
    assert len(of_torch) == 2
    assert all("--no-deps" in install and "--index-url" in install for install in of_torch)
    assert "PIP_ONLY_BINARY=:all:" in " ".join(words("ENV"))


def stage(name: str) -> str:
    """The lines of one stage, below its FROM."""
    return TEXT[TEXT.index(f" AS {name}\n") :].partition("\nFROM ")[0]


@pytest.mark.parametrize("target", TARGETS)
def test_the_code_is_all_that_is_laid_on_the_dependencies(target: str) -> None:
    assert f"FROM ${{DEPENDENCIES:-with-{target}}} AS {target}\n" in TEXT
    assert re.findall(r"^[A-Z]+ .*", stage(target), re.MULTILINE) == ["COPY --from=code /app /app"]
    copies = re.findall(r"^COPY --from=(\S+)", stage(f"with-{target}"), re.MULTILINE)
    assert copies[-1].startswith("build")
    assert set(copies[:-1]) <= {"openmp"}


def test_nothing_is_in_the_context_but_what_is_copied() -> None:
    lines = [line for line in (IMAGE / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {word for rest in words("COPY") if "--from" not in rest for word in rest.split()[:-1]}
    copied = {re.sub(r"^(requirements-\S+\.txt|\$\{REQUIREMENTS\})$", "requirements-*.txt", word) for word in copied}
    assert allowed == copied
    assert "**/__pycache__" in lines


@pytest.mark.parametrize("name", HASHED)
def test_requirements_are_hashed_and_without_torch(name: str) -> None:
    found = entries(name)
    assert len(found) > 30
    assert all("--hash=sha256:" in rest for rest in found.values())
    assert "torch" not in found
    assert bool([package for package in found if package.startswith("nvidia-")]) == ("gpu" in name)


@pytest.mark.parametrize("name", HASHED)
def test_requirements_pin_what_pyproject_pins(name: str) -> None:
    extras = load_script("compile-requirements").FILES[f"image/{name}"].extras
    wanted = PROJECT["dependencies"] + [pin for extra in extras for pin in PROJECT["optional-dependencies"][extra]]
    found = entries(name)
    for pin in wanted:
        package, _, version = pin.partition("==")
        if package != "torch":
            assert re.match(rf"=={re.escape(version)}[ \\;]", found[package]), f"{pin}; run ci/compile-requirements"


EXTRAS = ("grpc", "gs", "hf", "kafka", "pandas", "redis", "s3", "sign")


@pytest.mark.parametrize("extras", ["", "grpc", "grpc,kafka", "kafka, redis,pandas,sign,gs,s3,hf"])
def test_extras_are_files_that_one_installation_can_read(extras: str) -> None:
    """The words of the Dockerfile itself; pip refuses two versions of one package."""
    (install,) = [rest for rest in words("RUN") if "${EXTRAS}" in rest]
    script = install.partition("&& pip ")[0].replace("requirements/", "") + ' && echo "$@"'
    environ = {"PATH": os.environ["PATH"], "REQUIREMENTS": "requirements-serve.txt", "EXTRAS": extras}
    said = subprocess.run(["sh", "-c", script], env=environ, check=True, capture_output=True, text=True).stdout
    names = [word for word in said.split() if word != "-r"]
    assert names == [
        "requirements-serve.txt",
        *(f"requirements-{each.strip()}.txt" for each in extras.split(",") if each),
    ]
    pins: dict[str, str] = {}
    for package, rest in (entry for name in names for entry in entries(name).items()):
        assert pins.setdefault(package, rest) == rest


def test_the_dockerfile_names_every_extra() -> None:
    (comment,) = re.findall(r"# Any of (.*),? with commas", TEXT)
    assert tuple(re.findall(r"\w+", comment.replace(" and ", " "))) == EXTRAS
    assert {f"requirements-{extra}.txt" for extra in EXTRAS} <= set(HASHED)


def test_torch_is_pinned_to_the_version_of_its_extra_and_to_two_builds_for_two_platforms() -> None:
    pin = next(pin for pin in PROJECT["optional-dependencies"]["torch"] if pin.startswith("torch=="))
    text = re.sub(r"^#.*\n", "", (IMAGE / "requirements-torch.txt").read_text("utf-8"), flags=re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(pin)}( \\\n    --hash=sha256:[0-9a-f]{{64}}){{4}}\n", text)


def test_packages_are_dropped_by_their_whole_name() -> None:
    drop = load_script("compile-requirements").drop_packages
    text = "torch==1 \\\n    --hash=sha256:a\ntorchvision==2 ; x \\\n    --hash=sha256:b\n"
    assert drop(text, (re.compile("torch"),)) == "torchvision==2 ; x \\\n    --hash=sha256:b\n"
