"""Labels and rewards for earlier predictions: each is counted once, in the metrics of its model.

A prediction is known from its receipt, or is named in the feedback. Classes are compared by their index among the
model's labels, numbers by their difference.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from random import getrandbits
from typing import Any, Protocol

import numpy as np

from berth.errors import DuplicateFeedback, InvalidInput, InvalidReceipt, shown
from berth.models.model import Model
from berth.telemetry.feedback.receipts import MOST_PREDICTIONS, Receipt, ReceiptBook
from berth.tensors.arrays import Array

PREDICTION = "prediction"
# Receipts whose feedback a process remembers, so that the same one is not counted again.
MOST_REMEMBERED = 100_000
# The end of a receipt's text: its signature, which no two receipts share.
_SIGNATURE_CHARACTERS = 22
# A confusion matrix has the square of its classes; those beyond are counted as one.
MOST_CONFUSED, OTHER = 20, "other"
# A receipt holds a class in two bytes.
_MOST_CLASSES = 65_536


class FeedbackMetrics(Protocol):
    """What feedback adds to a model's metrics."""

    def count_truths(self, predicted: str, truth: str, right: bool, rows: int) -> None:
        """So many rows had this class predicted, and that one was true."""

    def observe_errors(self, differences: Sequence[float]) -> None:
        """Numbers were predicted, so far from the true ones."""

    def observe_reward(self, reward: float) -> None:
        """A prediction was worth so much, from 0 to 1."""

    def observe_delay(self, seconds: float) -> None:
        """The feedback came so long after its prediction."""


def digest_of(model: Model) -> bytes:
    """What a receipt holds of a model's digest."""
    return bytes.fromhex(model.sha256)[:8].ljust(8, b"\0")


def find_labels(model: Model) -> tuple[Any, ...]:
    """A classifier's classes in the order of its outputs; nothing for other models."""
    return next((tuple(spec.labels) for spec in model.outputs if spec.labels), ())


def find_class(labels: Sequence[Any], value: Any, what: str) -> int:
    """A label's index. Raises InvalidInput."""
    if isinstance(value, str | int | float) and value in labels:
        return labels.index(value)
    known = ", ".join(map(str, labels[:20]))
    raise InvalidInput(f"{what} {shown(value)} is not a class of this model; send one of {known}")


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"{what} must be a number, got {shown(value)}")
    return float(value)


def encode_values(labels: Sequence[Any], values: Any, what: str) -> tuple[float, ...]:
    """A value or a list of them, as a receipt holds predictions. Raises InvalidInput."""
    listed = values if isinstance(values, list) else [values]
    if labels:
        return tuple(float(find_class(labels, value, what)) for value in listed)
    return tuple(_number(value, what) for value in listed)


class FeedbackTally:
    """Makes receipts and counts feedback. Safe for any thread.

    `bind` gives a model's metrics by name and version. Without a book no receipt is made and none is read.
    """

    def __init__(
        self,
        bind: Callable[[str, str], FeedbackMetrics],
        book: ReceiptBook | None = None,
        arm: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._bind = bind
        self._book = book
        # Whether there are receipts.
        self.is_on = book is not None
        self._arm = arm
        self._now = now
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._places: dict[tuple[str, str], Mapping[Any, int]] = {}

    def _classes(self, model: Model, predictions: Array) -> list[float] | None:
        """The indices of predicted classes; None where they do not fit into a receipt."""
        key = (model.name, model.version)
        if key not in self._places:
            self._places[key] = {label: at for at, label in enumerate(find_labels(model))}
        places = self._places[key]
        found = [places.get(value) for value in predictions.tolist()]
        if len(places) > _MOST_CLASSES or None in found:
            return None
        return [float(place) for place in found if place is not None]

    def make_receipt(self, model: Model, outputs: Mapping[str, Array], arm: str = "") -> str | None:
        """The receipt for a prediction; None where receipts are off, or it has no classes or numbers to compare.

        `arm` is the arm of an experiment, else the slot is named.
        """
        predictions = outputs.get(PREDICTION)
        if self._book is None or predictions is None or predictions.ndim != 1:
            return None
        predictions = predictions[:MOST_PREDICTIONS]
        is_classifier = bool(find_labels(model))
        values = self._classes(model, predictions) if is_classifier else None
        if not is_classifier and predictions.dtype.kind in "fiu":
            with np.errstate(over="ignore"):  # what a float32 cannot hold is infinite, and is not compared
                values = predictions.astype(np.float32).tolist()
        if values is None:
            return None
        names = model.name, model.version, arm or self._arm
        serial = getrandbits(64).to_bytes(8, "big")
        receipt = Receipt(int(self._now()), digest_of(model), *names, tuple(values), is_classifier, serial)
        return self._book.make(receipt)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What receipts are signed with; none where there are no receipts."""
        return () if self._book is None else self._book.secrets

    def read_receipt(self, text: Any) -> Receipt:
        """What a receipt says. Raises InvalidReceipt."""
        if self._book is None:
            raise InvalidReceipt("this server makes no receipts; set BERTH_FEEDBACK_KEY_FILE, or name the prediction")
        if not isinstance(text, str):
            raise InvalidReceipt(f"receipt must be a string, got {shown(text)}")
        return self._book.read(text)

    def claim(self, kind: str, receipt: str) -> None:
        """Note that the feedback of a kind for a receipt is counted now. Raises DuplicateFeedback."""
        key = (kind, receipt[-_SIGNATURE_CHARACTERS:])
        with self._lock:
            if key in self._seen:
                raise DuplicateFeedback(f"the {kind} for this receipt was counted before; send each once")
            self._seen[key] = None
            if len(self._seen) > MOST_REMEMBERED:
                self._seen.popitem(last=False)

    def count_truth(self, receipt: Receipt, labels: Sequence[Any], truth: Sequence[float]) -> None:
        """Count what was true (as `encode_values` gives it) for each of a receipt's predictions."""
        metrics = self._bind(receipt.model, receipt.version)
        if receipt.classes:
            for (predicted, true), rows in Counter(zip(receipt.predictions, truth, strict=True)).items():
                names = [str(labels[int(at)]) if at < MOST_CONFUSED else OTHER for at in (predicted, true)]
                metrics.count_truths(names[0], names[1], predicted == true, rows)
        else:
            pairs = zip(receipt.predictions, truth, strict=True)
            metrics.observe_errors([abs(predicted - true) for predicted, true in pairs])
        self._count_delay(metrics, receipt)

    def count_reward(self, receipt: Receipt, reward: float) -> None:
        """Count what a prediction was worth."""
        metrics = self._bind(receipt.model, receipt.version)
        metrics.observe_reward(reward)
        self._count_delay(metrics, receipt)

    def _count_delay(self, metrics: FeedbackMetrics, receipt: Receipt) -> None:
        if receipt.made_at:
            metrics.observe_delay(max(self._now() - receipt.made_at, 0.0))
