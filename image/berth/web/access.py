"""What a caller may see: every model, or those that its key is for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qs

from berth.errors import InvalidInput, ModelNotFound, NotReady
from berth.models.model import Model
from berth.models.store import Entry
from berth.web.arms import assign_arm, first_entry, note_shadow, public_names, stand_in
from berth.web.auth import check_allowed
from berth.web.exchange import Backend, Exchange, Reply
from berth.web.wire import json_reply


def is_visible(exchange: Exchange, backend: Backend, model: str) -> bool:
    """Whether the caller may see and use `model`; where keys are on, a caller without one sees none."""
    key = exchange.api_key
    if key is None:
        return not backend.api.secured
    return key.models is None or model in key.models


def visible_entries(exchange: Exchange, backend: Backend) -> list[Entry]:
    """The served versions that the caller may see."""
    return [entry for entry in backend.catalog.entries if is_visible(exchange, backend, entry.name)]


def visible_models(exchange: Exchange, backend: Backend) -> list[Model]:
    """The models that are ready and that the caller may see."""
    return [model for model in backend.catalog.models() if is_visible(exchange, backend, model.name)]


def names_of(entries: Sequence[Entry]) -> list[str]:
    """Each name once, in the order in which the models were chosen."""
    return list(dict.fromkeys(entry.name for entry in entries))


def visible_names(exchange: Exchange, backend: Backend) -> list[str]:
    """The names that the caller may use: those of models, and those that experiments give to arms."""
    served = names_of(visible_entries(exchange, backend))
    return [*served, *(name for name in public_names(backend) if is_visible(exchange, backend, name))]


def stand_ins(exchange: Exchange, backend: Backend) -> dict[str, Model]:
    """The public names of experiments that no served model has, each with its first arm, once that is ready."""
    ready = {(model.name, model.version): model for model in backend.catalog.models()}
    found: dict[str, Model] = {}
    for name in public_names(backend):
        entry = first_entry(backend, name)
        if is_visible(exchange, backend, name) and (entry.name, entry.version) in ready:
            found[name] = ready[entry.name, entry.version]
    return found


def find_entry(exchange: Exchange, backend: Backend, name: str | None, version: str | None) -> Entry:
    """The version behind a request's words. An error names no model that the caller's key is not for.

    Raises ModelNotFound, Forbidden.
    """
    catalog, key = backend.catalog, exchange.api_key
    if name is not None and version is None and name in public_names(backend):
        check_allowed(key, name)
        return first_entry(backend, name)
    if key is not None and key.models is not None:
        names = names_of(visible_entries(exchange, backend))
        if name is None:
            check_allowed(key, catalog.entries[0].name, f"the default model; name one of {', '.join(names) or 'none'}")
        elif not catalog.versions(name):
            raise ModelNotFound(f"no model {name[:128]!r} here; this key is for {', '.join(names) or 'none'}")
        else:
            check_allowed(key, name)
    return catalog.find(name, version)


def _choose_arm(exchange: Exchange, backend: Backend, name: str | None, version: str | None) -> Model | None:
    """The arm that a request gets, where it predicts and an experiment has its name."""
    if (live := backend.experiments) is None or version is not None:
        return None
    name = backend.catalog.entries[0].name if name is None else name
    if live.shadows and exchange.endpoint.protocol and (shadowing := live.shadows.get(name)) is not None:
        note_shadow(exchange, shadowing)
    if (running := live.running.get(name)) is None:
        return None
    if exchange.endpoint.protocol:
        return assign_arm(exchange, backend, running)
    return stand_in(backend, running)


def choose_model(exchange: Exchange, backend: Backend, name: str | None, version: str | None = None) -> Model:
    """Note the request's model, once the caller's key is known to be good for it.

    Raises Forbidden, ModelNotFound, ModelFailed, NotReady.
    """
    if (found := _choose_arm(exchange, backend, name, version)) is not None:
        return found
    if exchange.api_key is not None:
        find_entry(exchange, backend, name, version)
    model = exchange.model = backend.catalog.resolve(name, version)
    return model


def choose_named(exchange: Exchange, backend: Backend) -> Model:
    """The model that the path names. Raises Forbidden, ModelNotFound, ModelFailed, NotReady."""
    return choose_model(exchange, backend, exchange.args["name"], exchange.args.get("version"))


def list_models(exchange: Exchange, backend: Backend) -> Reply:
    """The names of the models, as V1 and V2 list them."""
    return json_reply({"models": visible_names(exchange, backend)})


def check_ready(exchange: Exchange, backend: Backend) -> None:
    """That the server may have traffic. The reason may name any model: only a caller who sees all of them gets it.

    Raises NotReady.
    """
    readiness = backend.lifecycle.readiness()
    if readiness.ready:
        return
    if len(visible_entries(exchange, backend)) < len(backend.catalog.entries):
        raise NotReady("not ready; GET /health with a key for all models says why")
    raise NotReady(readiness.reason)


def report_ready(exchange: Exchange, backend: Backend) -> Reply:
    """200 where the server may have traffic. Raises NotReady."""
    check_ready(exchange, backend)
    return json_reply({"status": "ready"})


def _query(exchange: Exchange, name: str) -> str | None:
    values = parse_qs(exchange.environ.get("QUERY_STRING", "")[:2000]).get(name)
    return values[0] if values else None


def visible_reports(exchange: Exchange, backend: Backend, reports: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports (with `model` and `version`) that the caller may see and that ?model= and &version= choose.

    Raises InvalidInput, Forbidden, ModelNotFound.
    """
    name, version = _query(exchange, "model"), _query(exchange, "version")
    if version is not None and name is None:
        raise InvalidInput("version is given without model; send ?model=NAME&version=VERSION")
    if name is not None:
        find_entry(exchange, backend, name, version)
    return [
        report
        for report in reports
        if is_visible(exchange, backend, report["model"])
        and name in (None, report["model"])
        and version in (None, report["version"])
    ]


def reply_reports(exchange: Exchange, backend: Backend, reports: Iterable[dict[str, Any]], empty: str) -> Reply:
    """The reports that the caller may see; `empty` says why there are none. Raises as `visible_reports`."""
    chosen = visible_reports(exchange, backend, reports)
    return json_reply({"slot": backend.facts["slot"], "models": chosen, **({} if chosen else {"reason": empty})})


# A sample's label `model`; label values are escaped as in Python.
_MODEL_LABEL = re.compile(r'[{,]model="((?:[^"\\]|\\.)*)"')


def visible_metrics(exchange: Exchange, backend: Backend) -> bytes:
    """What /metrics says, without the samples of models that the caller's key is not for."""
    text, key = backend.render_metrics(), exchange.api_key
    if key is None or key.models is None:
        return text
    seen = ("", *key.models)
    lines = text.decode().splitlines(keepends=True)
    kept = [line for line in lines if (found := _MODEL_LABEL.search(line)) is None or found[1] in seen]
    return "".join(kept).encode()
