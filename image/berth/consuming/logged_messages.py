"""The payload log of a consumer: each committed message is a line, as a request of a server is.

A row stands under `instances` and its prediction under `predictions`, as those of a stream do. `request_id` is the
message's place, such as `orders/3/17`: a message that comes again is in the sample again, or neither time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from berth.consuming.broker_messages import CODE_HEADER, ERROR_HEADER, PREDICTED, Message, MessageOutcome
from berth.consuming.message_answers import PROTOCOL, MessageAnswers
from berth.errors import BodyTooLarge, InvalidInput, PredictionFailed, RequestError
from berth.models.model import Model
from berth.telemetry.logs import timestamp
from berth.telemetry.payloads.payload_lines import Body, PayloadEntry
from berth.telemetry.payloads.payload_log import PayloadLog
from berth.tensors.codec import encode_json
from berth.web.exchange import JSON

_STATUS = {kind.code: kind.status for kind in (BodyTooLarge, PredictionFailed)}


@dataclass(frozen=True)
class LoggedMessages:
    """What puts the messages of one model, with their outcomes, into the payload log of a slot."""

    payloads: PayloadLog
    answers: MessageAnswers
    model: Model
    slot: str

    def keep(self, messages: Sequence[Message], outcomes: Sequence[MessageOutcome], seconds: float) -> None:
        """Those of a batch, which took so long. Never waits."""
        for message, outcome in zip(messages, outcomes, strict=True):
            self._keep_one(message, outcome, seconds)

    def _keep_one(self, message: Message, outcome: MessageOutcome, seconds: float) -> None:
        error = {} if outcome.result == PREDICTED else _read_error(outcome)
        status = _STATUS.get(error["code"], InvalidInput.status) if error else 200
        fields = {"status": status, "ms": round(1000 * seconds, 3), **error}
        self.payloads.offer(message.place, status, lambda: self._describe(message, outcome, fields))

    def _describe(self, message: Message, outcome: MessageOutcome, fields: dict[str, Any]) -> PayloadEntry:
        model, value = self.model, outcome.message.value or b""
        known = {
            "ts": timestamp(),
            "request_id": message.place,
            "trace_id": "",
            "protocol": PROTOCOL,
            "model": model.name,
            "version": model.version,
            "slot": self.slot,
        }
        asked, is_row = message.value, self._is_row(message)
        request = None if asked is None else Body(b'{"instances":[%s]}' % asked if is_row else asked, JSON)
        if "code" in fields:
            response = encode_json({"error": fields["error"], "code": fields["code"]})
        else:
            response = b'{"predictions":[%s]}' % value if is_row else value
        return PayloadEntry(known | fields, request, Body(response, JSON), model.inputs)

    def _is_row(self, message: Message) -> bool:
        item = self.answers.decode(message)
        return not isinstance(item, RequestError) and not self.answers.is_body(item)


def _read_error(outcome: MessageOutcome) -> dict[str, str]:
    """The code and the error that the dead topic has."""
    headers = dict(outcome.message.headers)
    return {"code": headers[CODE_HEADER].decode(), "error": headers[ERROR_HEADER].decode()}
