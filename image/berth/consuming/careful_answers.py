"""A batch that an earlier process died of goes to a process of its own, and is halved until the message is found.

    deaths 0    the usual way: in this process, with a note while the model has the batch
    deaths 1    at most 16 messages at a time, in a process beside this one; where that one dies, halves of them, and a
                single message on which it dies has no prediction
    more        this process has died all the same (the kernel may end a whole container for want of memory, and
                there may be no room for the model twice): fewer at a time, and at last none

So a message on which the model crashes costs its consumer one restart, or six at worst, and is in the dead topic then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from berth.consuming.answering_process import Answer, AnsweringProcess, AnsweringProcessDied
from berth.consuming.batch_notes import BatchNotes
from berth.consuming.broker_messages import Message, MessageOutcome
from berth.errors import OperatorError
from berth.telemetry.logs import log

_FIRST_ROWS = 16
_ALONE_DEATHS = 5  # 16 messages at a time after one death, 8 after two, 1 after five


class CarefulAnswers:
    """`usual` predicts here, `apart` in `process`; `give_up` is the outcome of a message that has no prediction."""

    def __init__(
        self,
        notes: BatchNotes,
        usual: Answer,
        apart: Answer,
        process: AnsweringProcess,
        give_up: Callable[[Message, str], MessageOutcome],
    ) -> None:
        self._notes, self._usual, self._apart = notes, usual, apart
        self._process, self._give_up = process, give_up

    def most_rows(self, messages: Sequence[Message]) -> int | None:
        """How many of such messages the model may have together; None: as many as there are."""
        deaths = self._notes.deaths_of(messages)
        return max(1, _FIRST_ROWS >> (deaths - 1)) if deaths else None

    def answer(self, messages: Sequence[Message]) -> list[MessageOutcome]:
        """What becomes of each message, in their order."""
        deaths = self._notes.deaths_of(messages)
        if not deaths:
            return self._answer_here(messages)
        if deaths > _ALONE_DEATHS and len(messages) == 1:
            return [self._give_up(messages[0], f"{deaths} processes died while the model had this message")]
        outcomes: list[MessageOutcome] = []
        waiting = [list(messages)]
        while waiting:
            piece = waiting.pop()
            try:
                outcomes += self._answer_apart(piece)
            except AnsweringProcessDied as error:
                log("the process for suspect messages died", level=logging.WARNING, messages=len(piece))
                if half := len(piece) // 2:
                    waiting += [piece[half:], piece[:half]]
                else:
                    outcomes.append(self._give_up(piece[0], str(error)))
        return outcomes

    def _answer_here(self, messages: Sequence[Message]) -> list[MessageOutcome]:
        with self._notes.in_hand(messages):
            return self._usual(messages)

    def _answer_apart(self, messages: Sequence[Message]) -> list[MessageOutcome]:
        """Raises AnsweringProcessDied."""
        if not self._notes.no_room:
            try:
                with self._notes.starting():
                    self._process.start()
            except OperatorError as error:
                log("suspect messages stay in this process", level=logging.WARNING, error=error.message)
                self._notes.no_room = True
        if self._notes.no_room:
            return self._answer_here(messages)
        with self._notes.in_hand(messages):
            return self._apart(messages)

    def settle(self, messages: Sequence[Message]) -> None:
        """These are committed."""
        self._notes.settle(messages)
        if not self._notes.has_suspects:
            self._process.stop()

    def close(self) -> None:
        """The consumer ends."""
        self._process.stop()
        self._notes.close()
