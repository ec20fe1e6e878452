"""What runs in one worker beside Flask, and the watch over predictions that do not end."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from berth.experiments.live import LiveExperiments
from berth.experiments.shadowing import ShadowQueue
from berth.serving.admission import Gate
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import Lifecycle
from berth.serving.predictor import Predictor
from berth.serving.trials import Trials
from berth.telemetry.drift.monitor import DriftMonitor
from berth.telemetry.payloads.payload_log import PayloadLog
from berth.telemetry.tracing import Tracing
from berth.web.streams import StreamAnswers
from berth.worker.inline import InlineAnswers

if TYPE_CHECKING:
    from berth.rpc.rpc_server import RpcServer

_WATCH_SECONDS = 1.0


class WatchLimits(NamedTuple):
    """Seconds after which a request is stuck, and after which nobody waits for a prediction any more."""

    stuck: float
    timeout: float


@dataclass(frozen=True)
class Service:
    """What runs in one worker beside Flask; the gunicorn file starts it after the fork."""

    catalog: Catalog
    lifecycle: Lifecycle
    gate: Gate
    predictor: Predictor
    limits: WatchLimits
    trials: Trials
    payloads: PayloadLog | None = None
    tracing: Tracing | None = None
    express: InlineAnswers | None = None
    drift: DriftMonitor | None = None
    experiments: LiveExperiments | None = None
    streams: StreamAnswers | None = None
    rpc: RpcServer | None = None
    shadows: ShadowQueue | None = None

    def start(self, respawned: bool = False, notify: Callable[[], None] | None = None) -> None:
        """Load the models in the background and watch for stuck predictions.

        A gunicorn worker, which passes `notify`, has no threads yet and may fork: models are tried in a child first.
        """
        if notify is not None:
            self.trials.begin()
        self.catalog.start(respawned=respawned, notify=notify or (lambda: None))
        if self.drift is not None:
            self.drift.start()
        if self.experiments is not None:
            self.experiments.start()
        threading.Thread(target=self._watch, args=(notify is not None,), name="watch", daemon=True).start()
        if self.tracing is not None:
            self.tracing.start()
        if self.rpc is not None:
            self.rpc.start_after(self.catalog.wait)

    def _watch(self, may_freeze: bool) -> None:
        while True:
            if may_freeze and self.lifecycle.settled:
                # What loading made stays. A collection of it takes a quarter of a second, and all requests wait.
                gc.freeze()
                may_freeze = False
            self.lifecycle.mark_stuck(self.gate.oldest_seconds() > self.limits.stuck)
            blocked = self.predictor.look_for_blocking(self.limits.timeout)
            self.gate.paused = self.lifecycle.mark_blocked(blocked) and blocked
            time.sleep(_WATCH_SECONDS)
