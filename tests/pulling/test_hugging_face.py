"""hf://: a file of the Hugging Face Hub, through huggingface_hub, from a server that speaks its few endpoints."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import joblib
import pytest
from click.testing import CliRunner, Result
from sklearn.linear_model import LogisticRegression

from berth.cli.main import berth
from berth.errors import BerthError, IntegrityError, StoreError
from berth.models.store import find_version, read_manifest
from berth.pulling.fetching import fetch_model, scheme_of
from berth.pulling.origin import Fetched
from berth.pulling.transfer import Persistence

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
COMMIT, OLD = "c" * 40, "a" * 40
LARGE, SMALL = b"model of today " * 5000, b"{}"


def _git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Hub:
    """One repository, acme/churn, whose large file lies on another host; `seen` are (host's role, path, token)."""

    content: bytes = LARGE
    digest: str = hashlib.sha256(LARGE).hexdigest()
    small_digest: str = _git_digest(SMALL)
    private: bool = False
    broken: int = 0
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""
    elsewhere: str = ""

    def tree(self) -> list[dict[str, object]]:
        """What paths-info lists."""
        lfs = {"sha256": self.digest, "oid": self.digest, "size": len(self.content), "pointerSize": 130}
        return [
            {"type": "file", "path": "m/model.joblib", "size": len(self.content), "oid": "0" * 40, "lfs": lfs},
            {"type": "file", "path": "config.json", "size": len(SMALL), "oid": self.small_digest},
            {"type": "directory", "path": "m", "oid": "1" * 40},
        ]


def _handler(hub: Hub, role: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _json(self, document: object) -> None:
            self._send(200, json.dumps(document).encode(), Content_Type="application/json")

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "")
            hub.seen.append((role, self.path, token))
            if role == "elsewhere":
                return self._send(200, hub.content, ETag=f'"{hub.digest}"')
            if hub.broken:
                hub.broken -= 1
                return self._send(503)
            if hub.private and token != "Bearer right":
                return self._send(401, X_Error_Message="Invalid username or password.", X_Error_Code="RepoNotFound")
            if self.path.startswith("/api/models/acme/churn/paths-info/"):
                wanted = parse_qs(body.decode())["paths"]
                return self._json([row for row in hub.tree() if row["path"] in wanted])
            if self.path.startswith("/api/models/acme/churn"):
                revision = self.path.partition("/revision/")[2].partition("?")[0] or "main"
                commit = {"main": COMMIT, "v%2F1": OLD, OLD: OLD, COMMIT: COMMIT}.get(revision)
                if commit is None:
                    return self._send(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
                return self._json({"id": "acme/churn", "sha": commit, "siblings": [], "tags": [], "downloads": 0})
            if self.path.startswith("/acme/churn/resolve/") and self.path.endswith("model.joblib"):
                commit = self.path.split("/")[4]
                etag, size, there = f'"{hub.digest}"', str(len(hub.content)), f"{hub.elsewhere}/blob?sig=1"
                return self._send(302, X_Repo_Commit=commit, Location=there, X_Linked_Etag=etag, X_Linked_Size=size)
            if self.path.startswith("/acme/churn/resolve/") and self.path.endswith("config.json"):
                return self._send(200, SMALL, X_Repo_Commit=self.path.split("/")[4], ETag=f'"{hub.small_digest}"')
            return self._send(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

        do_GET = do_HEAD = do_POST = _answer

    return Handler


@pytest.fixture
def hub() -> Iterator[Hub]:
    """The Hub and the host where its large files are."""
    hub, servers = Hub(), []
    for role in ("hub", "elsewhere"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, role))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    hub.url, hub.elsewhere = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    yield hub
    for server in servers:
        server.shutdown()
        server.server_close()


def _fetch(hub: Hub, uri: str, into: Path, **environ: str) -> Fetched:
    return fetch_model(uri, {"HF_ENDPOINT": hub.url, **environ}, into, Persistence(sleep=lambda seconds: None))


def test_a_file_at_a_branch(hub: Hub, tmp_path: Path) -> None:
    hub.broken = 1  # tried again
    assert scheme_of("hf://acme/churn/m/model.joblib") == "hf"
    fetched = _fetch(hub, "hf://acme/churn/m/model.joblib", tmp_path, HF_TOKEN="right")
    assert fetched.path.read_bytes() == LARGE
    assert [path.name for path in tmp_path.iterdir()] == ["model.joblib"]
    source = {name: value for name, value in fetched.source.items() if name != "fetched_at"}
    assert source == {
        "uri": "hf://acme/churn/m/model.joblib",
        "hub": hub.url,
        "revision": "main",
        "commit": COMMIT,
        "sha256": hub.digest,
        "bytes": len(LARGE),
    }
    assert {path.split("/")[4] for role, path, _ in hub.seen if "/resolve/" in path} == {COMMIT}
    tokens = {role: {token for who, _, token in hub.seen if who == role} for role in ("hub", "elsewhere")}
    assert tokens == {"hub": {"Bearer right"}, "elsewhere": {""}}  # the token stays with its host


@pytest.mark.parametrize(("revision", "commit"), [(OLD, OLD), ("v%2F1", OLD)])
def test_a_file_at_a_commit_or_tag(hub: Hub, tmp_path: Path, revision: str, commit: str) -> None:
    fetched = _fetch(hub, f"hf://acme/churn@{revision}/config.json", tmp_path)
    assert fetched.path.read_bytes() == SMALL
    assert (fetched.source["commit"], fetched.source["revision"]) == (commit, revision.replace("%2F", "/"))


@pytest.mark.parametrize(
    ("change", "file", "kind", "said"),
    [
        ({"digest": "0" * 64}, "m/model.joblib", IntegrityError, "but the Hub lists 75000 and 0000"),
        ({"content": LARGE[:-1] + b"!"}, "m/model.joblib", IntegrityError, "has 75000 bytes with the digest"),
        ({"small_digest": "0" * 40}, "config.json", IntegrityError, "but the Hub lists 2 and 0000"),
        ({"private": True}, "config.json", StoreError, "returned 401: .* set HF_TOKEN in the environment"),
        ({"broken": 9}, "config.json", StoreError, r"the Hub returned 503 \(5 tries\)"),
        ({}, "m", StoreError, "'m' is a folder; name a file in it"),
        ({}, "none.bin", StoreError, "'none.bin' is not there"),
        ({}, "../x", StoreError, "which is no name inside a folder"),
    ],
)
def test_what_is_refused(
    hub: Hub, tmp_path: Path, change: dict[str, object], file: str, kind: type[BerthError], said: str
) -> None:
    for name, value in change.items():
        setattr(hub, name, value)
    with pytest.raises(kind, match=said) as refused:
        _fetch(hub, f"hf://acme/churn/{file}", tmp_path)
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("uri", ["hf://acme/model.bin", "hf:acme/churn/x", "hf://acme/churn@/x", "hf://acme/churn"])
def test_what_is_no_address(hub: Hub, tmp_path: Path, uri: str) -> None:
    with pytest.raises(StoreError, match="want hf://ORG/REPO"):
        _fetch(hub, uri, tmp_path)
    assert hub.seen == []


def test_a_revision_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the Hub returned 404"):
        _fetch(hub, "hf://acme/churn@nowhere/config.json", tmp_path)


def test_a_model_is_imported(hub: Hub, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    joblib.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), buffer)
    hub.content, hub.digest = buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest()
    words = ["pull", "--import", "hf://acme/churn/m/model.joblib", f"--into={tmp_path / 'store'}"]

    def run(*more: str) -> Result:
        return CliRunner().invoke(berth, [*words, *more], env={"HF_ENDPOINT": hub.url}, standalone_mode=False)

    result = run("--models=churn@7")
    assert result.exception is None, result.exception
    assert "imported from hf://acme/churn/m/model.joblib, which has no digest of model.json" in result.output
    entry = find_version(tmp_path / "store", "churn", "7")
    assert read_manifest(entry).metadata["source"]["commit"] == COMMIT
    seen = len(hub.seen)
    assert "it is here already" in run("--models=churn@7").output
    assert len(hub.seen) == seen
    for more, said in [
        (["--models=churn"], "--import makes one version: name it"),
        (["--models=churn@8,other@1"], "--import makes one version: name it"),
        (["--models=churn@8", f"--sha256={'0' * 64}"], "leave --sha256 and --key out"),
    ]:
        refused = run(*more).exception
        assert isinstance(refused, StoreError)
        assert said in refused.message
    next((entry.folder).glob("*.joblib")).write_bytes(b"changed")
    assert isinstance(run("--models=churn@7").exception, IntegrityError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
