"""Servers that mean ill: each is one line with its cause, in bounded time and room, and nothing is left behind."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_pulling import ARTIFACT, put

from berth.cli.main import berth
from berth.cli.pull_command import _UNITS
from berth.errors import BerthError, IntegrityError, ManifestError, StoreError
from berth.models.store import list_versions
from berth.pulling.addresses import Access
from berth.pulling.pull import PullReport, parse_wanted, pull_models
from berth.pulling.registry_oci import speaks_tls
from berth.pulling.transfer import Persistence
from file_server import serve_files
from live.server import free_port
from raw_server import Answer, Connection, RawServer, serve_raw

QUICK = Persistence(first_pause=0.0001)
Files = Mapping[str, bytes]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """What a good server has: the path of each file of iris@1, and its bytes."""
    folder = put(tmp_path / "store", "iris", "1").folder
    return {f"/iris/1/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """Where the models should come."""
    return tmp_path / "into"


def pull(uri: str, into: Path, *, models: str = "iris@1", access: Access | None = None) -> list[str]:
    """The lines that a pull reports."""
    told: list[str] = []
    pull_models(uri, into, parse_wanted(models), access or Access(persistence=QUICK), PullReport(told.append))
    return told


def check_line(error: BerthError, into: Path, *, kept: bool = False) -> None:
    """One short line, and no version; below the directory nothing at all, unless what has come is kept."""
    assert error.message.isprintable()
    assert len(error.message) < 1000
    assert list_versions(into, "iris") == []
    left = {path.name for path in into.iterdir()} if into.exists() else set()
    assert left <= ({".pull"} if kept else set())


def response(body: bytes = b"", *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """An HTTP response; with its length unless the headers are to say something else."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def good(files: Files, path: str) -> bytes:
    """What an honest server sends."""
    path = unquote(path)
    return response(files[path]) if path in files else response(status="404 Not Found")


def instead(files: Files, bad: str, sent: bytes) -> Answer:
    """An honest server but for one path."""
    return lambda path, connection: connection.send(sent if path == bad else good(files, path))


MODEL = "/iris/1/model.onnx"
MALFORMED = {
    "length-of-letters": (response(ARTIFACT, "Content-Length: many", length=False), "Content-Length"),
    "length-negative": (response(ARTIFACT, "Content-Length: -5", length=False), "Content-Length"),
    "length-of-squares": (response(ARTIFACT, "Content-Length: ²", length=False), "Content-Length"),
    "length-of-5000-digits": (response(ARTIFACT, f"Content-Length: {'9' * 5000}", length=False), "Content-Length"),
    "two-lengths": (response(ARTIFACT, "Content-Length: 5"), "Content-Length"),
    "too-long": (response(ARTIFACT + b"more"), "has 300004 bytes at .*, but model.json says 300000"),
    "too-short": (response(ARTIFACT[:10]), "has 10 bytes at .*, but model.json says 300000"),
    "range-without-one": (response(ARTIFACT, status="206 Partial Content"), "returned the range ''"),
    "range-of-words": (
        response(ARTIFACT, "Content-Range: bytes all", status="206 P"),
        "returned the range 'bytes all'",
    ),
    "range-elsewhere": (response(ARTIFACT, "Content-Range: bytes 7-9/300000", status="206 P"), "where bytes 0-"),
    "range-backwards": (response(ARTIFACT, "Content-Range: bytes 0-9/5", status="206 P"), "where bytes 0-"),
    "range-of-5000-digits": (
        response(ARTIFACT, f"Content-Range: bytes 0-{'9' * 5000}/*", status="206 P"),
        "returned the range 'bytes 0-999",
    ),
    "gzip": (response(gzip.compress(ARTIFACT), "Content-Encoding: gzip"), "is sent with Content-Encoding 'gzip'"),
    "no-http": (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be reached: "),
    "nothing": (b"", "Server disconnected"),
    "status-of-words": (b"HTTP/1.1 two hundred\r\n\r\n", "cannot be reached: "),
    "headers-without-end": (response(b"", *(f"X-{n}: {'x' * 1000}" for n in range(300))), "cannot be reached: "),
    "chunks-of-no-size": (response(b"zz\r\nx\r\n", "Transfer-Encoding: chunked", length=False), "cannot be reached: "),
    "chunks-cut": (response(b"ff\r\nx", "Transfer-Encoding: chunked", length=False), "cannot be reached: "),
    "more-than-it-says": (response(ARTIFACT * 2, length=False), "has more than the 300000 bytes"),
    "less-than-it-says": (response(ARTIFACT[:9], "Content-Length: 300000", length=False), "cut after 9 of 300000"),
    "retry-after-squares": (response(b"", "Retry-After: ²", status="503 Busy"), r"returned 503 \(5 tries\)"),
    "retry-after-words": (response(b"", "Retry-After: soon", status="503 Busy"), r"returned 503 \(5 tries\)"),
    "retry-after-digits": (response(b"", f"Retry-After: {'9' * 5000}", status="429 No"), r"returned 429 \(5 tries\)"),
    "a-reason-with-control-characters": (response(status="418 \x1b[31mred\x07"), "cannot be reached|returned 418"),
    "a-loop": (response(b"", f"Location: {MODEL}", status="302 Found"), "leads to more than 10 other places"),
    "to-a-file": (response(b"", "Location: file:///etc/passwd", status="302 Found"), "which is not followed"),
    "to-ftp": (response(b"", "Location: ftp://127.0.0.1/x", status="302 Found"), "which is not followed"),
    "to-nowhere": (response(b"", "Location: http://[::1", status="302 Found"), "cannot be reached: "),
    "to-no-port": (response(b"", "Location: http://127.0.0.1:99999/", status="302 Found"), "cannot be "),
    "to-no-host": (response(b"", f"Location: http://{'a' * 70}..b/", status="302 Found"), "cannot be "),
    "to-credentials": (response(b"", "Location: http://u:sesame@127.0.0.1/", status="302 Found"), "not followed"),
    "nowhere": (response(status="302 Found"), "returned 302"),
}


@pytest.mark.parametrize(("sent", "words"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_response(files: Files, into: Path, sent: bytes, words: str) -> None:
    quick = Persistence(0.0001, lambda seconds: None)
    with serve_raw(instead(files, MODEL, sent)) as server, pytest.raises(BerthError, match=words) as failed:
        pull(server.url, into, access=Access("Bearer sesame", quick))
    check_line(failed.value, into, kept="tries" in words or "pull again" in failed.value.message)
    assert "sesame" not in failed.value.message


@pytest.mark.parametrize(("sent", "words"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("path", ["/iris/1/model.json", "/index.json", "/models.tar.gz"])
def test_a_malformed_response_anywhere(files: Files, into: Path, path: str, sent: bytes, words: str) -> None:
    uri, models = ("/models.tar.gz", "") if path == "/models.tar.gz" else ("", "iris")
    listing = dict(files) | {"/": b'<a href="iris/">iris</a>', "/iris/": b'<a href="1/">1</a>'}
    quick = Persistence(0.0001, lambda seconds: None)
    with serve_raw(instead(listing, path, sent)) as server:
        try:
            pull(f"{server.url}{uri}", into, models=models, access=Access(persistence=quick))
        except BerthError as error:
            check_line(error, into, kept=True)


def test_the_last_line_of_the_command_is_the_cause(files: Files, into: Path) -> None:
    with serve_raw(instead(files, MODEL, response(b"", "Location: file:///etc/passwd", status="302 Found"))) as server:
        command = [sys.executable, "-m", "berth", "pull", server.url, f"--into={into}", "--models=iris@1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf"berth: {server.url}{MODEL} leads to \S*/etc/passwd, which is not followed\n", done.stderr)
    assert done.stdout.splitlines() == [f"iris@1: 4 files, 300002 bytes from {server.url}"]
    assert list(into.iterdir()) == []


def endless(head: bytes, piece: bytes) -> Answer:
    """Sends `piece` again and again, as fast as it is taken."""

    def answer(path: str, connection: Connection) -> None:
        connection.send(head)
        until = time.monotonic() + 20
        while not connection.over.is_set() and time.monotonic() < until:
            connection.send(piece)

    return answer


ENDLESS = {
    "until-it-closes": endless(response(length=False), b"x" * 65536),
    "chunks": endless(response(b"", "Transfer-Encoding: chunked", length=False), b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "length": endless(response(b"", f"Content-Length: {1 << 62}", length=False), b"x" * 65536),
    "headers": endless(b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n" * 1000),
    "a-header": endless(b"HTTP/1.1 200 OK\r\nX-More: ", b"x" * 65536),
    "interim-responses": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
    "a-redirects-body": endless(response(b"", "Location: /iris/1/model.onnx", status="302 Found", length=False), b"x"),
}
PLACES = {"archive": ("/models.tar.gz", ""), "manifest": ("", "iris@1"), "index": ("", "iris")}


@pytest.mark.parametrize("answer", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize(("path", "models"), PLACES.values(), ids=PLACES)
def test_a_response_without_an_end(into: Path, path: str, models: str, answer: Answer) -> None:
    begun = time.monotonic()
    with serve_raw(answer) as server, pytest.raises(BerthError) as failed:
        pull(f"{server.url}{path}", into, models=models, access=Access(persistence=SLOW, max_bytes=1 << 20))
    check_line(failed.value, into, kept="pull again" in failed.value.message)
    assert sum(path.stat().st_size for path in into.rglob("*") if path.is_file()) <= 1 << 20
    assert time.monotonic() - begun < 15


def test_a_file_without_an_end(files: Files, into: Path) -> None:
    def answer(path: str, connection: Connection) -> None:
        ENDLESS["chunks"](path, connection) if path == MODEL else connection.send(good(files, path))

    with serve_raw(answer) as server, pytest.raises(IntegrityError, match="has more than the 300000 bytes") as failed:
        pull(server.url, into)
    check_line(failed.value, into)


SLOW = Persistence(first_pause=0.0001, window=0.1)
DRIPS = {
    "first-line": b"HTTP/1.1 200 OK of a kind\r\n" * 100,
    "headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
    "interim": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
    "body": response(b"x" * 5000),
    "body-until-it-closes": response(b"x" * 5000, length=False),
    "chunk-size": response(b"1;" + b"a=b;" * 1000, "Transfer-Encoding: chunked", length=False),
    "chunks": response(b"1\r\nx\r\n" * 1000, "Transfer-Encoding: chunked", length=False),
    "redirect": response(b"x" * 5000, "Location: /", status="302 Found"),
    "silence": b"",
}


@pytest.mark.parametrize("data", DRIPS.values(), ids=DRIPS)
@pytest.mark.parametrize(("path", "models"), PLACES.values(), ids=PLACES)
def test_a_byte_at_a_time_is_cut(into: Path, path: str, models: str, data: bytes) -> None:
    def answer(path: str, connection: Connection) -> None:
        connection.trickle(data)
        connection.over.wait(10)

    begun = time.monotonic()
    with serve_raw(answer) as server:
        with pytest.raises(StoreError, match=r"sent less than 65536 bytes in 0\.1 seconds \(5 tries\)") as failed:
            pull(f"{server.url}{path}", into, models=models, access=Access(persistence=SLOW))
        assert time.monotonic() - begun < 8  # 5 tries of 0.1 s, on a busy machine
    check_line(failed.value, into, kept=True)
    assert threading.active_count() < 20


def test_a_file_that_drips_goes_on_from_what_has_come(files: Files, into: Path) -> None:
    """A slow half, twice; each try is cut, and the next one continues."""

    def answer(path: str, connection: Connection) -> None:
        if path != MODEL:
            return connection.send(good(files, path))
        start = int(connection.head.partition("Range: bytes=")[2].partition("-")[0] or 0)
        body = ARTIFACT[start:]
        head = response(b"", f"Content-Range: bytes {start}-299999/300000", status="206 Partial", length=False)
        connection.send(head + body[:100_000])
        return connection.trickle(body[100_000:])

    with serve_raw(answer) as server:
        access = Access(persistence=Persistence(first_pause=0.0001, window=0.5))
        assert f"iris@1: in {into}" in pull(server.url, into, access=access)[-1]
        assert server.paths().count(MODEL) >= 3


def test_the_time_for_everything(files: Files, into: Path) -> None:
    """A server that is never too slow, and never done."""

    def answer(path: str, connection: Connection) -> None:
        if path != MODEL:
            return connection.send(good(files, path))
        connection.send(response(b"", "Content-Length: 300000", length=False))
        for at in range(0, 290_000, 1000):
            connection.send(ARTIFACT[at : at + 1000])
            time.sleep(0.03)
        return None

    begun = time.monotonic()
    persistence = Persistence(first_pause=0.0001, ends=time.monotonic() + 2)
    with serve_raw(answer) as server:
        with pytest.raises(StoreError, match="time of --max-seconds is over") as failed:
            pull(server.url, into, access=Access(persistence=persistence))
        assert MODEL in server.paths()
    assert time.monotonic() - begun < 7  # all of it takes 9 seconds
    check_line(failed.value, into, kept=True)


def test_another_state_than_the_one_that_was_asked_for_begins_again(tmp_path: Path, into: Path) -> None:
    """A server that names a new ETag and sends the old range all the same."""
    put(tmp_path / "store", "iris", "1")
    archive = Path(shutil.make_archive(str(tmp_path / "models"), "gztar", tmp_path / "store")).read_bytes()
    starts: list[int] = []

    def answer(path: str, connection: Connection) -> None:
        start = int(connection.head.partition("Range: bytes=")[2].partition("-")[0] or 0)
        starts.append(start)
        if not start and len(starts) == 1:  # of an earlier state, and cut
            return connection.send(
                response(b"old" * 50_000, 'ETag: "v1"', f"Content-Length: {len(archive)}", length=False)
            )
        ranged = [f"Content-Range: bytes {start}-{len(archive) - 1}/{len(archive)}"] if start else []
        status = "206 Partial Content" if start else "200 OK"
        return connection.send(response(archive[start:], 'ETag: "v2"', *ranged, status=status))

    with serve_raw(answer) as server:
        pull(f"{server.url}/models.tar.gz", into)
    assert starts == [0, 150_000, 0]


def test_compressed_archives_may_be_called_encoded(tmp_path: Path, into: Path) -> None:
    """Apache calls what .tar.gz is by itself an encoding; the bytes are the archive."""
    put(tmp_path / "store", "iris", "1")
    archive = Path(shutil.make_archive(str(tmp_path / "models"), "gztar", tmp_path / "store")).read_bytes()
    sent = response(archive, "Content-Encoding: x-gzip")
    with serve_raw(lambda path, connection: connection.send(sent)) as server:
        assert len(pull(f"{server.url}/models.tar.gz", into)) == 2


@pytest.fixture(scope="module")
def junk() -> Iterator[tuple[RawServer, list[bytes]]]:
    """A server that sends whatever is in the list."""
    sent = [b""]
    with serve_raw(lambda path, connection: connection.send(sent[0])) as server:
        yield server, sent


HEADERS = [
    "Content-Length",
    "Content-Range",
    "Retry-After",
    "ETag",
    "Location",
    "Content-Encoding",
    "Transfer-Encoding",
]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([200, 204, 206, 301, 302, 304, 307, 401, 404, 416, 429, 500, 503, 999]),
    st.lists(st.tuples(st.sampled_from(HEADERS), st.text(st.characters(max_codepoint=255), max_size=30)), max_size=4),
    st.binary(max_size=200),
    st.sampled_from(["", "/models.zip", "/models.tar"]),
)
def test_any_response_is_one_line(
    junk: tuple[RawServer, list[bytes]],
    tmp_path: Path,
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
    path: str,
) -> None:
    server, sent = junk
    lines = [f"HTTP/1.1 {status} so", "Connection: close", *(f"{name}: {value}" for name, value in headers), "", ""]
    sent[0] = "\r\n".join(lines).encode("latin-1") + body
    access = Access(persistence=Persistence(0.0, lambda seconds: None, window=2))
    with pytest.raises(BerthError) as failed:
        pull(f"{server.url}{path}", tmp_path / "into", access=access)
    assert failed.value.message.isprintable() or "reached" in failed.value.message


@pytest.mark.parametrize(
    "uri", ["http://u:sesame@[::1", "http://u:sesame@[x]/", "http://127.0.0.1:99999/", "http:///x", "http://a..b/"]
)
@pytest.mark.parametrize("models", ["iris@1", ""])
def test_a_uri_that_is_none(into: Path, uri: str, models: str) -> None:
    with pytest.raises(StoreError) as failed:
        pull(uri, into, models=models, access=Access(persistence=Persistence(0.0, lambda seconds: None)))
    check_line(failed.value, into, kept=True)
    assert "sesame" not in failed.value.message


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "gopher://127.0.0.1:1", "http://[::1"])
def test_a_proxy_that_cannot_be_used(into: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(StoreError, match="a proxy in the environment") as failed:
        pull("http://127.0.0.1:1", into)
    check_line(failed.value, into)


def test_a_proxy_is_used(files: Files, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(path: str, connection: Connection) -> None:
        connection.send(good(files, path.removeprefix("http://models.invalid")))

    with serve_raw(answer) as server:
        monkeypatch.setenv("http_proxy", server.url)
        pull("http://models.invalid", into)
        assert {path[:24] for path in server.paths()} == {"http://models.invalid/ir"}
    assert [entry.key for entry in list_versions(into, "iris")] == ["iris@1"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """What a server with that certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_is_trusted_only_when_its_authority_is(
    files: Files, into: Path, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_raw(lambda path, connection: connection.send(good(files, path)), tls) as server:
        with pytest.raises(
            StoreError, match=r"its certificate is not trusted: self-signed .*; set SSL_CERT_FILE"
        ) as failed:
            pull(server.url, into)
        check_line(failed.value, into)
        assert server.heads == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        pull(server.url, into, access=Access("Bearer sesame", QUICK))
    assert [entry.key for entry in list_versions(into, "iris")] == ["iris@1"]
    assert all("Authorization: Bearer sesame" in head for head in server.heads)


def test_who_speaks_tls(tls: ssl.SSLContext, tmp_path: Path) -> None:
    """Whatever the certificate; a server that cannot be reached is said to, so that nothing goes there unencrypted."""
    with serve_raw(lambda path, connection: None, tls) as server, serve_files(tmp_path) as plain:
        ports = [urlsplit(url).port or 0 for url in (server.url, plain.url)]
        assert [speaks_tls("127.0.0.1", port) for port in (*ports, free_port())] == [True, False, True]


def test_nothing_leads_out_of_tls(
    files: Files, into: Path, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serve_raw(instead(files, "", b"")) as plain:
        away = response(b"", f"Location: {plain.url}{MODEL}", status="302 Found")
        with (
            serve_raw(instead(files, MODEL, away), tls) as server,
            pytest.raises(StoreError, match="not followed") as failed,
        ):
            pull(server.url, into)
        assert plain.heads == []
    check_line(failed.value, into)


@pytest.mark.parametrize("data", [DRIPS["headers"], DRIPS["body-until-it-closes"]], ids=["headers", "body"])
def test_a_byte_at_a_time_is_cut_under_tls(
    into: Path, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    access = Access(persistence=Persistence(first_pause=0.0001, window=0.3))
    words = r"sent less than 65536 bytes in 0\.3 seconds \(5 tries\)"
    drip = serve_raw(lambda path, connection: connection.trickle(data), tls)
    with drip as server, pytest.raises(StoreError, match=words) as failed:
        pull(f"{server.url}/models.tar", into, models="", access=access)
    check_line(failed.value, into, kept=True)


Edit = Callable[[dict[str, object]], None]


def manifest(files: Files, edit: Edit) -> bytes:
    """model.json of iris@1, changed."""
    document = json.loads(files["/iris/1/model.json"])
    edit(document)
    return json.dumps(document).encode()


EMPTY = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
MANIFESTS: dict[str, tuple[Edit, str]] = {
    "a-control-character": (lambda m: m.update(files={"a\x7f": EMPTY}), "cannot be printed"),
    "an-escape": (lambda m: m.update(files={"a\x9b31m": EMPTY}), "cannot be printed"),
    "right-to-left": (lambda m: m.update(files={"a\u202eb": EMPTY}), "cannot be printed"),
    "half-a-letter": (lambda m: m.update(files={"a\ud800": EMPTY}), "cannot be printed"),
    "a-file-and-a-folder": (lambda m: m.update(files={"a": EMPTY, "a/b/c": EMPTY}), "'a' as a file and as a folder"),
    "a-page-of-words": (lambda m: m.update(name="x" * 100_000), "at name: "),
    "a-page-of-numbers": (lambda m: m.update(files=[0] * 100_000), "at files: "),
    "a-page-of-keys": (lambda m: m.update({"k" * 100_000: 1}), "at the top: "),
}


@pytest.mark.parametrize(("edit", "words"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_means_ill(files: Files, into: Path, edit: Edit, words: str) -> None:
    sent = response(manifest(files, edit))
    with (
        serve_raw(instead(files, "/iris/1/model.json", sent)) as server,
        pytest.raises(ManifestError, match=words) as failed,
    ):
        pull(server.url, into)
    check_line(failed.value, into)


def test_an_index_of_no_text_is_one_line(into: Path) -> None:
    files = {"/index.json": b"\xff" * 1_000_000}
    with serve_raw(instead(files, "", b"")) as server, pytest.raises(StoreError, match=r"index\.json of") as failed:
        pull(server.url, into, models="iris")
    check_line(failed.value, into)


def test_a_listing_of_half_links_takes_no_longer(into: Path) -> None:
    for page in (b"<a " * 300_000, b"<a href=" * 100_000, b"<!--" * 250_000, b'<a href="' + b"x" * 1_000_000):
        begun = time.monotonic()
        with (
            serve_raw(instead({"/index.json": b"[]", "/": page}, "", b"")) as server,
            pytest.raises(StoreError, match="/iris/ returned 404"),
        ):
            pull(server.url, into, models="iris")
        assert time.monotonic() - begun < 3


def test_what_the_directory_may_hold(tmp_path: Path, into: Path) -> None:
    put(tmp_path / "store", "iris", "1")
    put(tmp_path / "store", "iris", "2", data=b"x" * 250_000)
    command = ["pull", f"--into={into}", "--max-bytes=400k"]
    with serve_files(tmp_path / "store") as web:
        assert CliRunner().invoke(berth, [*command, web.url, "--models=iris@1"]).exit_code == 0
        done = CliRunner().invoke(berth, [*command, web.url, "--models=iris@2"])
        assert isinstance(done.exception, StoreError)
        told = done.exception.message
        assert told.startswith(f"iris@2 needs 250001 bytes in '{into}', but 9")
        assert told.endswith(
            "are free: give it more room: a larger disk or claim, --max-bytes, or scratchSize in the chart"
        )
        assert "/iris/2/model.onnx" not in web.paths()
    assert [path.name for path in into.iterdir()] == ["iris"]
    assert [_UNITS[unit] for unit in ("", "k", "Ki", "G", "Ei")] == [1, 1000, 1024, 10**9, 1 << 60]
    variable = CliRunner(env={"STORE_MAX_BYTES": "0.3Mi"}).invoke(
        berth, ["pull", str(tmp_path / "store"), f"--into={into}"]
    )
    assert "needs 250001 bytes" in str(variable.exception)


@pytest.mark.parametrize("text", ["", "lots", "-1", "1e9", "4 Gi", "4gi", "²", "9" * 5000])
def test_a_size_that_is_none(into: Path, text: str) -> None:
    done = CliRunner().invoke(berth, ["pull", "/x", f"--into={into}", f"--max-bytes={text}"])
    assert done.exit_code == 2
    assert "want a number of bytes" in done.stderr
