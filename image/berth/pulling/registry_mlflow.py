"""Models from an MLflow tracking server, by its REST API: the library mlflow is not needed.

    mlflow:models:/churn@champion   an alias        mlflow:models:/churn/7     a version
    mlflow:models:/churn/latest     the highest     mlflow:models:/m-1a2b…     a logged model
    mlflow:runs:/RUN/model          what a run logged under that name or path

An address is resolved first, to a place that never changes; an alias is resolved again at the end, and one that has
moved meanwhile is an error. https://mlflow.org/docs/latest/rest-api.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode, urlsplit

from berth.errors import SettingsError, StoreError
from berth.pulling.bucket import LIBRARIES, open_bucket
from berth.pulling.https import WebRules, WebSource, show_url
from berth.pulling.origin import Fetched, check_file_names
from berth.pulling.presigned import SignedAddresses
from berth.pulling.transfer import ModelSource, Persistence, fetch_listed, read_small

_API = "api/2.0/mlflow"
_PROXY = "api/2.0/mlflow-artifacts/artifacts"
_PRESIGNED = "api/2.0/mlflow-artifacts/presigned"
_ANSWER_BYTES = 16 << 20
_MOST_FILES = 10_000
_DEEPEST = 16
# (path, size) -> the file in its bucket, None where it comes from elsewhere.
FindSigned: TypeAlias = Callable[[str, int | None], WebSource | None]
_FORMS = (
    "mlflow:models:/NAME@ALIAS, mlflow:models:/NAME/VERSION, mlflow:models:/NAME/latest, mlflow:models:/m-ID or "
    "mlflow:runs:/RUN/NAME"
)
_ADVICE = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment"


@dataclass(frozen=True)
class MlflowServer:
    """A tracking server and how to reach it. `authorization` goes to its host alone and is never shown."""

    url: str
    authorization: str = field(default="", repr=False)
    ca_file: str = ""
    client_certificate: str = ""
    bucket_endpoint: str = ""


@dataclass(frozen=True)
class _Place:
    """Where a model's files lie, and what its version's metadata keeps of how that was found."""

    artifacts: str
    facts: Mapping[str, Any]


class _Registry:
    """What the REST API reports."""

    def __init__(self, server: MlflowServer, persistence: Persistence) -> None:
        self._server, self._persistence = server, persistence
        self._rules = WebRules(
            advice=_ADVICE,
            only_here=True,
            ca_file=server.ca_file,
            client_certificate=server.client_certificate,
            explains=True,
        )

    def source(self, path: str, query: Mapping[str, str] | None = None) -> WebSource:
        """A path of the server as a source of files."""
        url = f"{self._server.url.rstrip('/')}/{path}" + (f"?{urlencode(query)}" if query else "")
        return WebSource(url, self._server.authorization, self._persistence, self._rules)

    def get(self, path: str, /, **query: str) -> dict[str, Any]:
        """The JSON object at a path. Raises StoreError."""
        source = self.source(path, query)
        text = read_small(source, "", _ANSWER_BYTES, self._persistence)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{source.shown} sends no JSON; is MLFLOW_TRACKING_URI a tracking server?") from error
        if not isinstance(document, dict):
            raise StoreError(f"{source.shown} sends no JSON object; is MLFLOW_TRACKING_URI a tracking server?")
        return document

    def version(self, name: str, version: str) -> _Place:
        """A registered version's files."""
        row = self.get(f"{_API}/model-versions/get", name=name, version=version)["model_version"]
        if row.get("status", "READY") != "READY":
            raise StoreError(f"version {version} of {name} is {row['status']} in the registry, not READY")
        artifacts = self.get(f"{_API}/model-versions/get-download-uri", name=name, version=version)["artifact_uri"]
        facts = {"name": name, "version": version, "run_id": row.get("run_id"), "model_id": _model_id(row)}
        return _Place(artifacts, {key: value for key, value in facts.items() if value})

    def alias(self, name: str, alias: str) -> str:
        """The version that an alias names now."""
        row = self.get(f"{_API}/registered-models/alias", name=name, alias=alias)["model_version"]
        return str(row["version"])

    def highest(self, name: str) -> str:
        """The highest version of a registered model."""
        quoted = "`" if "'" in name else "'"
        rows = self.get(
            f"{_API}/model-versions/search",
            filter=f"name={quoted}{name}{quoted}",
            order_by="version_number DESC",
            max_results="1",
        ).get("model_versions")
        if not rows:
            raise StoreError(f"the registry has no version of {name!r}")
        return str(rows[0]["version"])

    def logged(self, model_id: str) -> _Place:
        """A logged model's files."""
        info = self.get(f"{_API}/logged-models/{model_id}")["model"]["info"]
        facts = {"model_id": model_id, "run_id": info.get("source_run_id")}
        return _Place(info["artifact_uri"], {key: value for key, value in facts.items() if value})

    def run_model(self, run_id: str, path: str) -> _Place:
        """What a run logged as `path`: a logged model of that name (MLflow 3), else its own artifacts."""
        run = self.get(f"{_API}/runs/get", run_id=run_id)["run"]
        outputs = run.get("outputs", {}).get("model_outputs", [])
        for model_id in reversed([str(row["model_id"]) for row in outputs]):
            if self.get(f"{_API}/logged-models/{model_id}")["model"]["info"]["name"] == path:
                return self.logged(model_id)
        return _Place(f"{run['info']['artifact_uri'].rstrip('/')}/{path}", {"run_id": run_id})


def _model_id(row: Mapping[str, Any]) -> str:
    found = re.fullmatch(r"models:/(m-[0-9a-f]+)", str(row.get("source", "")))
    return found[1] if found else str(row.get("model_id") or "")


def _resolve(registry: _Registry, address: str) -> tuple[_Place, Callable[[], None]]:
    """Where an address leads, and a check that it still does. Raises StoreError."""
    if found := re.fullmatch(r"models:/(m-[0-9a-f]+)", address):
        return registry.logged(found[1]), lambda: None
    if found := re.fullmatch(r"runs:/([0-9a-zA-Z_-]+)/(.+)", address):
        return registry.run_model(found[1], found[2].strip("/")), lambda: None
    if found := re.fullmatch(r"models:/([^/@]+)/(\d+)", address):
        return registry.version(found[1], found[2]), lambda: None
    if found := re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/latest)", address):
        name, alias = found[1], found[2]
        version = registry.alias(name, alias) if alias else registry.highest(name)

        def check() -> None:
            now = registry.alias(name, alias) if alias else registry.highest(name)
            if now != version:
                raise StoreError(
                    f"it moved from version {version} to {now} while it was fetched; run the command again"
                )

        place = registry.version(name, version)
        return _Place(place.artifacts, {**place.facts, **({"alias": alias} if alias else {})}), check
    raise StoreError(f"an address must be {_FORMS}")


def _list_proxied(registry: _Registry, root: str) -> Iterator[tuple[str, int | None]]:
    """(path below `root`, size) of every file that the tracking server hands out."""
    folders, count = [""], 0
    while folders:
        folder = folders.pop()
        where = "/".join(filter(None, (root, folder)))
        rows = registry.get(_PROXY, path=where).get("files", [])
        for row in rows:
            name = str(row["path"]).rpartition("/")[2]
            path, count = "/".join(filter(None, (folder, name))), count + 1
            check_file_names([path], "the tracking server")
            if count > _MOST_FILES or path.count("/") > _DEEPEST:
                raise StoreError(
                    f"the tracking server lists more than {_MOST_FILES} files, or folders below each other"
                )
            if row.get("is_dir"):
                folders.append(path)
            else:
                yield path, int(row["file_size"]) if row.get("file_size") is not None else None


def _open_artifacts(
    registry: _Registry, server: MlflowServer, place: _Place
) -> tuple[ModelSource, list[tuple[str, int | None]]]:
    """The source of a model's files, and the files. Raises StoreError where they cannot be reached from here."""
    parts = urlsplit(place.artifacts)
    if parts.scheme == "mlflow-artifacts":
        if parts.netloc and parts.netloc != urlsplit(server.url).netloc:
            raise StoreError(
                f"its files lie on another tracking server, {parts.hostname}: set MLFLOW_TRACKING_URI to it"
            )
        root = parts.path.strip("/")
        return registry.source(f"{_PROXY}/{root}"), list(_list_proxied(registry, root))
    if parts.scheme in LIBRARIES:
        bucket = open_bucket(parts.scheme, f"{parts.netloc}{parts.path}")
        return bucket, bucket.list_files()
    raise StoreError(
        f"its files are at {show_url(place.artifacts)}, which only the server's own machine can read: start it with "
        "--artifacts-destination, which hands them out"
    )


def _find_signed(registry: _Registry, server: MlflowServer, place: _Place, persistence: Persistence) -> FindSigned:
    """Where large files are beside the source; nowhere, for a bucket that is read itself."""
    parts = urlsplit(place.artifacts)
    if parts.scheme != "mlflow-artifacts":
        return lambda path, size: None
    root = parts.path.strip("/")
    addresses = SignedAddresses(
        lambda path: registry.get("/".join(filter(None, (_PRESIGNED, root, path)))), server.bucket_endpoint, persistence
    )
    return addresses.find


def fetch_mlflow(address: str, server: MlflowServer, into: Path, persistence: Persistence) -> Fetched:
    """The MLflow model at `address` (without `mlflow:`) in the folder `into`. Raises StoreError, SettingsError."""
    if urlsplit(server.url).scheme not in ("http", "https"):
        raise SettingsError(f"MLFLOW_TRACKING_URI={server.url[:80]!r}: want the http(s) URL of a tracking server")
    registry = _Registry(server, persistence)
    try:
        place, check_again = _resolve(registry, address)
        source, files = _open_artifacts(registry, server, place)
        if not files:
            raise StoreError(f"there is no file at {show_url(place.artifacts)}")
        fetch_listed(source, files, into, persistence, _find_signed(registry, server, place, persistence))
        check_again()
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"mlflow:{address}: the tracking server's response is not as expected: {error!r}") from error
    except StoreError as error:
        raise StoreError(f"mlflow:{address}: {error.message}") from error
    facts = {"uri": f"mlflow:{address}", "tracking_uri": show_url(server.url), **place.facts}
    return Fetched(into, {**facts, "artifacts": show_url(place.artifacts)})
