"""gunicorn's arbiter, following the container's CPU limit while the server runs (in-place resize of a pod).

Each second it plans anew, from the limit as it is then. A new plan must be seen twice: cgroup v1 has quota and period
in two files. Where only the number of workers differs, one is started or ended, as by SIGTTIN and SIGTTOU. Where a
worker's own numbers differ (threads of numerical libraries are read once, when a worker starts), all workers are
replaced, one after the other:

    start one with the new numbers -> it has loaded its models -> end the oldest -> next

so that memory for one more worker is used meanwhile, and someone always accepts connections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gunicorn.arbiter import Arbiter

from berth.cpu import CpuPlan


class ResizingArbiter(Arbiter):  # type: ignore[misc]
    """An arbiter becomes one in `on_starting`, by its class and `follow`."""

    def follow(
        self,
        plan: CpuPlan,
        read_plan: Callable[[], CpuPlan],
        apply_plan: Callable[[CpuPlan], None],
        is_settled: Callable[[int], bool],
    ) -> None:
        """Begin with a plan. `apply_plan` prepares what later workers read; `is_settled(pid)`: it loads no more."""
        self._plan = self._seen = plan
        self._read_plan, self._apply_plan, self._is_settled = read_plan, apply_plan, is_settled
        # Workers that must be replaced, and whether the number of workers is on its way to the plan's.
        self._stale: set[int] = set()
        self._changing = False

    def manage_workers(self) -> None:
        """What gunicorn does once a second, and after each signal."""
        last, self._seen = self._seen, self._read_plan()
        if self._seen == last != self._plan:
            self._change(last)
        if self._changing:
            self._step()
        super().manage_workers()

    def _change(self, plan: CpuPlan) -> None:
        old, self._plan = self._plan, plan
        self.log.info(
            "the CPU limit is %g now: %d workers with %d compute threads each",
            plan.limit,
            plan.workers,
            plan.cpu_threads,
        )
        if replace(old, limit=plan.limit) == plan:
            return
        self._apply_plan(plan)
        self.cfg.set("workers", plan.workers)
        self.cfg.set("threads", plan.threads)
        if replace(old, limit=plan.limit, workers=plan.workers) != plan:
            self._stale |= set(self.WORKERS)
        self._changing = True

    def _step(self) -> None:
        """The number of workers that brings the next one, or ends the oldest; it is reached before the next step."""
        self._stale &= set(self.WORKERS)
        if not self._stale:
            self.num_workers, self._changing = self._plan.workers, False
            return
        fresh = set(self.WORKERS) - self._stale
        if not all(map(self._is_settled, fresh)):
            return
        if len(self.WORKERS) <= self._plan.workers:
            self.num_workers = len(self.WORKERS) + 1
        else:
            self.num_workers = len(self.WORKERS) - 1
