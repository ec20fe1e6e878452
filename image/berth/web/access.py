"""What a caller may see: every model, or those that its key is for."""

from __future__ import annotations

from collections.abc import Sequence

from berth.errors import ModelNotFound, NotReady
from berth.models.model import Model
from berth.models.store import Entry
from berth.web.auth import ApiKey, check_allowed
from berth.web.exchange import Backend, Exchange


def is_allowed(key: ApiKey | None, model: str) -> bool:
    """Whether a caller with `key` may see and use `model`."""
    return key is None or key.models is None or model in key.models


def visible_entries(exchange: Exchange, backend: Backend) -> list[Entry]:
    """The served versions that the caller may see."""
    return [entry for entry in backend.catalog.entries if is_allowed(exchange.api_key, entry.name)]


def visible_models(exchange: Exchange, backend: Backend) -> list[Model]:
    """The models that are ready and that the caller may see."""
    return [model for model in backend.catalog.models() if is_allowed(exchange.api_key, model.name)]


def names_of(entries: Sequence[Entry]) -> list[str]:
    """Each name once, in the order in which the models were chosen."""
    return list(dict.fromkeys(entry.name for entry in entries))


def find_entry(exchange: Exchange, backend: Backend, name: str | None, version: str | None) -> Entry:
    """The version behind a request's words. An error names no model that the caller's key is not for.

    Raises ModelNotFound, Forbidden.
    """
    catalog, key = backend.catalog, exchange.api_key
    if key is not None and key.models is not None:
        names = names_of(visible_entries(exchange, backend))
        if name is None:
            check_allowed(key, catalog.entries[0].name, f"the default model; name one of {', '.join(names) or 'none'}")
        elif not catalog.versions(name):
            raise ModelNotFound(f"no model {name[:128]!r} here; this key is for {', '.join(names) or 'none'}")
        else:
            check_allowed(key, name)
    return catalog.find(name, version)


def choose_model(exchange: Exchange, backend: Backend, name: str | None, version: str | None = None) -> Model:
    """Note the request's model, once the caller's key is known to be good for it.

    Raises Forbidden, ModelNotFound, ModelFailed, NotReady.
    """
    if exchange.api_key is not None:
        find_entry(exchange, backend, name, version)
    model = exchange.model = backend.catalog.resolve(name, version)
    return model


def check_ready(exchange: Exchange, backend: Backend) -> None:
    """That the server may have traffic. Raises NotReady."""
    readiness = backend.lifecycle.readiness()
    if not readiness.ready:
        raise NotReady(readiness.reason)
