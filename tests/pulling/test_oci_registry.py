"""`berth push`, `pull` and `add` against a real OCI registry (crane's), and one behind a proxy that misbehaves."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_pulling import put

from berth.cli.main import berth
from berth.errors import BerthError, IntegrityError, StoreError
from berth.models.manifest import SIGNATURE
from berth.models.store import Entry, find_version, list_names, read_manifest, verify_version, write_signature
from berth.pulling.registry_oci import OciReference, OciRegistry, parse_reference, read_basic
from berth.pulling.transfer import Persistence
from live.server import free_port, wait_until
from misbehaving_front import Front, in_front_of

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
LOGIN = base64.b64encode(b"ann:secret").decode()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A registry's port."""
    if (crane := shutil.which("crane")) is None:
        pytest.skip("crane, which serves the registry, is not on PATH")
    port = free_port()
    log = (tmp_path_factory.mktemp("registry") / "log").open("wb")
    command = [crane, "registry", "serve", "--address", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(
            lambda: subprocess.run([crane, "catalog", f"127.0.0.1:{port}"], capture_output=True).returncode == 0, "it"
        )
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


@pytest.fixture
def front(port: int) -> Iterator[Front]:
    """The registry behind a proxy."""
    with in_front_of(port) as front:
        yield front


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """iris@1 in a store."""
    return put(tmp_path / "store", "iris", "1")


def run(*words: str | Path, **environ: str) -> Result:
    """`berth` with these words."""
    environ = {"HOME": "/nowhere", "DOCKER_CONFIG": "", "REGISTRY_AUTH_FILE": "", **environ}
    return CliRunner().invoke(berth, [str(word) for word in words], env=environ, standalone_mode=False)


def push(entry: Entry, place: str, **environ: str) -> str:
    """`berth push` to HOST/REPOSITORY:TAG; what it printed last."""
    result = run("push", entry.key, f"oci://{place}", "--store", entry.folder.parents[1], **environ)
    assert result.exception is None, result.exception
    return result.output.splitlines()[-1]


def refused(result: Result, kind: type[BerthError], reason: str) -> None:
    """That it ended with one line."""
    assert isinstance(result.exception, kind), result.exception
    assert reason in result.exception.message
    assert "\n" not in result.exception.message


def host(front: Front) -> str:
    """The proxy as a registry's name."""
    return front.url.removeprefix("http://")


def test_a_version_goes_there_and_back(port: int, entry: Entry, tmp_path: Path) -> None:
    write_signature(entry, b'{"a": "signature"}')
    uri = push(entry, f"127.0.0.1:{port}/models/iris:1")
    assert uri.startswith(f"oci://127.0.0.1:{port}/models/iris@sha256:")
    for number, name in enumerate([uri, f"oci://127.0.0.1:{port}/models/iris:1"]):
        result = run("pull", name, f"--into={tmp_path / str(number)}")
        assert result.exception is None, result.exception
        assert uri.removeprefix("oci://") in result.output
        verify_version(Entry("iris", "1", tmp_path / str(number) / "iris" / "1"))
        assert (tmp_path / str(number) / "iris" / "1" / SIGNATURE).read_bytes() == b'{"a": "signature"}'
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["iris"]


def test_a_model_pack_goes_there_and_back(port: int, entry: Entry, tmp_path: Path) -> None:
    write_signature(entry, b'{"a": "signature"}')
    uris = []
    for name in ("pack", "again"):
        result = run(
            "push", "iris@1", f"oci://127.0.0.1:{port}/{name}/iris:1", "--modelpack", "--store", tmp_path / "store"
        )
        assert result.exception is None, result.exception
        uris.append(result.output.splitlines()[-1])
    assert uris[0].rpartition("@")[2] == uris[1].rpartition("@")[2]
    shown = subprocess.run(
        ["crane", "manifest", uris[0].removeprefix("oci://")], check=True, capture_output=True, text=True
    )
    document = json.loads(shown.stdout)
    assert document["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert document["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    files = sorted(read_manifest(entry).files)
    paths = [layer.get("annotations", {}).get("org.cncf.model.filepath") for layer in document["layers"]]
    assert paths == [*(f"iris/1/{name}" for name in files), None]
    config = subprocess.run(
        ["crane", "blob", f"127.0.0.1:{port}/pack/iris@{document['config']['digest']}"], check=True, capture_output=True
    )
    described = json.loads(config.stdout)
    assert described["descriptor"]["name"] == "iris"
    assert described["modelfs"]["diffIds"] == [layer["digest"] for layer in document["layers"]]
    result = run("pull", uris[0], f"--into={tmp_path / 'there'}")
    assert result.exception is None, result.exception
    verify_version(Entry("iris", "1", tmp_path / "there" / "iris" / "1"))
    assert (tmp_path / "there" / "iris" / "1" / SIGNATURE).read_bytes() == b'{"a": "signature"}'


def test_equal_content_has_an_equal_digest(port: int, entry: Entry, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "iris" / "1"
    shutil.copytree(entry.folder, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    first = push(entry, f"127.0.0.1:{port}/one:x").rpartition("@")[2]
    assert push(Entry("iris", "1", copy), f"127.0.0.1:{port}/two:y").rpartition("@")[2] == first
    assert push(put(tmp_path / "other", "iris", "1", data=b"x"), f"127.0.0.1:{port}/one:z").rpartition("@")[2] != first


def test_crane_reads_the_image(port: int, entry: Entry) -> None:
    uri = push(entry, f"127.0.0.1:{port}/models/crane:1").removeprefix("oci://")
    exported = subprocess.run(["crane", "export", uri, "-"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        names = {info.name: info for info in archive}
    assert "iris/1/model.json" in names
    assert {info.mtime for info in names.values()} == {0}


def test_a_cut_at_half_resumes(front: Front, entry: Entry, tmp_path: Path) -> None:
    uri = push(entry, f"{host(front)}/models/cut:1")
    front.asked.clear()
    front.cut, front.cuts = "/blobs/", 1
    assert run("pull", uri, f"--into={tmp_path / 'into'}").exception is None
    assert len(front.ranges) == 1
    assert int(front.ranges[0].removeprefix("bytes=").removesuffix("-")) > 150_000
    verify_version(find_version(tmp_path / "into", "iris"))


def test_a_layer_with_another_digest_is_refused(front: Front, entry: Entry, tmp_path: Path) -> None:
    uri = push(entry, f"{host(front)}/models/forged:1")
    manifest = subprocess.run(["crane", "manifest", uri.removeprefix("oci://")], check=True, capture_output=True).stdout
    (layer,) = json.loads(manifest)["layers"]
    front.forged[layer["digest"]] = bytes(layer["size"])
    result = run("pull", uri, f"--into={tmp_path / 'into'}")
    refused(result, IntegrityError, f"but the manifest says {layer['digest'].removeprefix('sha256:')}")
    assert list((tmp_path / "into").iterdir()) == []


def test_a_manifest_with_another_digest_is_refused(front: Front, entry: Entry, tmp_path: Path) -> None:
    uri = push(entry, f"{host(front)}/models/swapped:1")
    front.forged["/manifests/"] = b'{"layers": []}'
    refused(run("pull", uri, f"--into={tmp_path / 'into'}"), IntegrityError, "sends a manifest with the digest sha256:")


def test_a_registry_with_a_token_service(front: Front, entry: Entry, tmp_path: Path) -> None:
    front.authorization, front.token = f"Basic {LOGIN}", "t0"
    auth = tmp_path / "auth.json"
    auth.write_text(json.dumps({"auths": {host(front): {"auth": LOGIN}}}))
    uri = push(entry, f"{host(front)}/models/closed:1", REGISTRY_AUTH_FILE=str(auth))
    assert run("pull", uri, f"--into={tmp_path / 'a'}", REGISTRY_AUTH_FILE=str(auth)).exception is None
    refused(run("pull", uri, f"--into={tmp_path / 'b'}"), StoreError, "returned 401: log in to the registry")
    tokens = [path for path, _ in front.asked if path.startswith("/token?")]
    assert "scope=repository%3Amodels%2Fclosed%3Apull%2Cpush" in tokens[0]


def test_add_takes_a_file_out_of_an_image(port: int, tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LinearRegression

    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), tmp_path / "m.joblib")
    store = tmp_path / "store"
    assert run("add", tmp_path / "m.joblib", "--name", "m", "--store", store).exception is None
    uri = push(find_version(store, "m"), f"127.0.0.1:{port}/models/m:1")
    refused(run("add", uri, "--name", "n", "--store", store), StoreError, "fetch it with `berth pull`")
    refused(run("add", f"{uri}#m/2", "--name", "n", "--store", store), StoreError, "there is no 'm/2' in the image")
    assert list_names(store) == ["m"]
    result = run("add", f"{uri}#m/1/m.joblib", "--name", "n", "--store", store)
    assert result.exception is None, result.exception
    source = read_manifest(find_version(store, "n")).metadata["source"]
    assert (source["uri"], source["digest"]) == (f"{uri}#m/1/m.joblib", uri.rpartition("@")[2])


@pytest.mark.parametrize("name", ["models/none:1", "models/none@sha256:" + "0" * 64])
def test_what_is_not_there(port: int, tmp_path: Path, name: str) -> None:
    refused(run("pull", f"oci://127.0.0.1:{port}/{name}", f"--into={tmp_path / 'into'}"), StoreError, "returned 404")


@pytest.mark.parametrize(
    "text", ["", "x", "host/", "host/UPPER", "host/a//b", "host/a@sha256:12", "host/a:b:c", "ho st/a"]
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(StoreError, match="is no reference"):
        parse_reference(f"//{text}")


def test_references() -> None:
    digest = "sha256:" + "a" * 64
    assert parse_reference(f"//ghcr.io/a/b:1@{digest}#x/y") == OciReference("ghcr.io", "a/b", "1", digest, "x/y")
    assert parse_reference("//ghcr.io/a").url == "https://ghcr.io/v2/a"
    assert parse_reference("//docker.io/a/b").url == "https://registry-1.docker.io/v2/a/b"
    assert parse_reference("//registry.kube.local:5000/a").url == "http://registry.kube.local:5000/v2/a"


def own_private_address() -> str:
    """An RFC 1918 address of this machine."""
    words = subprocess.run(["hostname", "-I"], check=False, capture_output=True, text=True).stdout.split()
    found = [word for word in words if any(ip_address(word) in ip_network(each) for each in PRIVATE)]
    if not found:
        pytest.skip("this machine has no private IPv4 address (hostname -I)")
    return found[0]


@pytest.fixture
def private() -> Iterator[str]:
    """HOST:PORT of a registry at a private address that speaks no TLS."""
    if (crane := shutil.which("crane")) is None:
        pytest.skip("crane, which serves the registry, is not on PATH")
    place = f"{own_private_address()}:{free_port()}"
    process = subprocess.Popen([crane, "registry", "serve", "--address", place], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: subprocess.run([crane, "catalog", place], capture_output=True).returncode == 0, "it")
        yield place
    finally:
        process.kill()
        process.wait()


def test_a_private_registry_without_tls_gets_no_credentials(private: str, entry: Entry, tmp_path: Path) -> None:
    push(entry, f"{private}/models/iris:1")
    assert run("pull", f"oci://{private}/models/iris:1", f"--into={tmp_path / 'into'}").exception is None
    (tmp_path / "config.json").write_text(json.dumps({"auths": {private: {"auth": LOGIN}}}))
    result = run("pull", f"oci://{private}/models/iris:1", f"--into={tmp_path / 'no'}", DOCKER_CONFIG=str(tmp_path))
    refused(result, StoreError, "speaks no TLS, so the credentials for it are not sent")


def test_a_private_address_is_none_of_others() -> None:
    for host in ("172.32.0.1", "11.0.0.1", "10.0.0.1.example.com", "8.8.8.8:5000", "110.0.0.1", "10.0.0.1.2"):
        assert OciRegistry(parse_reference(f"//{host}/a"), {}, Persistence()).url == f"https://{host}/v2/a"


def test_where_credentials_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"ghcr.io": {"auth": "YQ=="}, "other": {}}}))
    assert read_basic("ghcr.io", {"DOCKER_CONFIG": str(tmp_path)}) == "Basic YQ=="
    assert read_basic("other", {"DOCKER_CONFIG": str(tmp_path)}) == ""
    assert read_basic("ghcr.io", {"REGISTRY_AUTH_FILE": str(tmp_path / "none"), "DOCKER_CONFIG": str(tmp_path)}) == ""
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(StoreError, match="does not hold a registry's credentials"):
        read_basic("ghcr.io", {"DOCKER_CONFIG": str(tmp_path)})
