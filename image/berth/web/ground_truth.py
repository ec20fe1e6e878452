"""POST /feedback: what came true for earlier predictions, by their receipts or by naming them."""

from __future__ import annotations

import time
from typing import Any, TypeAlias

from berth.errors import BerthError, InvalidInput, InvalidReceipt, shown
from berth.experiments.arm_counts import ArmPlace
from berth.models.model import Model
from berth.telemetry.feedback.receipts import MOST_PREDICTIONS, Receipt
from berth.telemetry.feedback.tally import FeedbackTally, digest_of, encode_values, find_labels
from berth.tensors.codec import decode_json, encode_json
from berth.web import wire
from berth.web.access import choose_model
from berth.web.auth import check_allowed
from berth.web.exchange import JSON, Backend, Endpoint, Exchange, Reply

RECEIPT_HEADER = "X-Berth-Receipt"
MOST_ITEMS = 10_000
_FORMS = ({"receipt", "truth"}, {"receipt", "reward"}, {"model", "version", "prediction", "truth"})
Item: TypeAlias = dict[str, Any]


def _choose(exchange: Exchange, backend: Backend, name: Any, version: Any) -> Model:
    if not isinstance(name, str) or not isinstance(version, str | int) or isinstance(version, bool):
        raise InvalidInput(f"model and version must be strings, got {shown(name)} and {shown(version)}")
    try:
        return choose_model(exchange, backend, name, str(version))
    finally:
        exchange.model = None  # a list may be about many


def _check_length(receipt: Receipt, truth: tuple[float, ...]) -> tuple[float, ...]:
    """The truth for the predictions of a receipt, which holds the first 64 only. Raises InvalidInput."""
    count = len(receipt.predictions)
    if len(truth) != count and not len(truth) > count == MOST_PREDICTIONS:
        raise InvalidInput(f"truth has {len(truth)} values for {count} predictions; send one for each")
    return truth[:count]


def _read_reward(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInput(f"reward must be a number from 0 to 1, got {shown(value)}")
    return float(value)


def _choose_receipt(exchange: Exchange, backend: Backend, receipt: Receipt) -> tuple[Model, ArmPlace | None]:
    """The model of a receipt, and what counts its reward, as long as an experiment has that arm.

    A key for an experiment's public name may report on its arms.
    """
    live = backend.experiments
    found = None if live is None else live.find_reward(receipt.arm, f"{receipt.model}@{receipt.version}")
    if found is None:
        return _choose(exchange, backend, receipt.model, receipt.version), None
    check_allowed(exchange.api_key, found[0].experiment.model)
    return backend.catalog.resolve(receipt.model, receipt.version), found[1]


def _count_receipt(exchange: Exchange, backend: Backend, tally: FeedbackTally, item: Item) -> None:
    receipt = tally.read_receipt(item["receipt"])
    model, arm = _choose_receipt(exchange, backend, receipt)
    if digest_of(model) != receipt.digest:
        raise InvalidReceipt(f"the receipt is from another file than the one served as {model.name}@{model.version}")
    if "reward" in item:
        reward = _read_reward(item["reward"])
        tally.claim("reward", item["receipt"])
        tally.count_reward(receipt, reward)
        if arm is not None:
            arm.count_reward(reward, time.time())
        return
    labels = find_labels(model)
    truth = _check_length(receipt, encode_values(labels, item["truth"], "truth"))
    tally.claim("truth", item["receipt"])
    tally.count_truth(receipt, labels, truth)


def _count_named(exchange: Exchange, backend: Backend, tally: FeedbackTally, item: Item) -> None:
    model = _choose(exchange, backend, item["model"], item["version"])
    labels = find_labels(model)
    predicted = encode_values(labels, item["prediction"], "prediction")
    receipt = Receipt(0, b"", model.name, model.version, "", predicted, bool(labels))
    truth = encode_values(labels, item["truth"], "truth")
    if len(truth) != len(predicted):
        raise InvalidInput(f"truth has {len(truth)} values for {len(predicted)} predictions; send one for each")
    if len(truth) > backend.max_rows:
        raise InvalidInput(f"truth has {len(truth)} values; send at most {backend.max_rows} at once")
    tally.count_truth(receipt, labels, truth)


def _count_item(exchange: Exchange, backend: Backend, tally: FeedbackTally, item: Any) -> None:
    """Count one feedback. Raises RequestError, ServerError; then nothing of it was counted."""
    if not isinstance(item, dict) or set(item) not in _FORMS:
        raise InvalidInput(
            f"send receipt with truth or reward, or model, version, prediction and truth, got {shown(item)}"
        )
    count = _count_receipt if "receipt" in item else _count_named
    count(exchange, backend, tally, item)


def _read_items(exchange: Exchange, backend: Backend) -> list[Any]:
    wire.check_media_type(exchange.environ, JSON)
    document = decode_json(wire.read_body(exchange, backend.max_body_bytes))
    items = document if isinstance(document, list) else [document]
    if not 1 <= len(items) <= MOST_ITEMS:
        raise InvalidInput(f"send 1 to {MOST_ITEMS} items, got {len(items)}")
    return items


def _feedback(exchange: Exchange, backend: Backend) -> Reply:
    rejected: list[tuple[int, BerthError]] = []
    items = _read_items(exchange, backend)
    for index, item in enumerate(items):
        try:
            _count_item(exchange, backend, backend.tally, item)
        except BerthError as error:
            rejected.append((index, error))
    document = {
        "accepted": len(items) - len(rejected),
        "rejected": [{"index": at, "error": error.message, "code": error.code} for at, error in rejected],
    }
    if len(rejected) == len(items):
        first = rejected[0][1]
        exchange.error = first
        shape = {"error": first.message, "code": first.code, "request_id": exchange.request_id}
        return Reply(encode_json(shape | document), 400)
    return Reply(encode_json(document), 207 if rejected else 200)


ENDPOINTS = (
    Endpoint("post", "/feedback", "feedback", "predict", "Report the true values of earlier predictions", _feedback,
             "Feedback", body="feedback", errors=(207, 400, 408, 413, 415)),
)  # fmt: skip
