"""What tests of the gate share: a stand-in for the cluster's DNS, and servers that answer as they are told to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from berth.switchgate.asking import Caller, Resolve, key_headers
from berth.switchgate.decide import Outcome
from berth.switchgate.inquiry import Inquiry
from berth.switchgate.judging import judge_switch, verify_traffic
from berth.switchgate.plan import SwitchPlan, VerifyPlan
from live.server import HOST

BLUE, GREEN = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


class Lookup:
    """Stands for the cluster's DNS: every name is this machine, headless ones have `pods` addresses."""

    def __init__(self, pods: Sequence[str] = ("10.0.0.1",)) -> None:
        self.pods = pods
        self.missing: dict[str, int] = {}

    def __call__(self, host: str) -> Sequence[str]:
        if host in self.missing:
            raise socket.gaierror(self.missing[host], "no such name")
        return self.pods if host == "pods" else [HOST]


def switch(active_url: str, target_url: str) -> SwitchPlan:
    """From blue to green."""
    return SwitchPlan(
        release="iris",
        active_url=active_url,
        target_url=target_url,
        target_slot="green",
        fingerprint=GREEN,
        headless_host="pods",
        other_mode="serve",
        timeout_seconds=20,
    )


def judge(plan: SwitchPlan, lookup: Resolve, told: list[str], key: str = "") -> tuple[bool, str]:
    """Whether the gate lets the upgrade go on, and what it says."""
    caller = Caller(key_headers(key), lookup)
    verdict = judge_switch(plan, Inquiry(caller, plan.timeout_seconds, told.append, pause=0.05))
    assert verdict.outcome is not Outcome.GO_ON
    return verdict.outcome is Outcome.PASS, verdict.sentence


def verify(url: str, lookup: Resolve, told: list[str], **more: Any) -> tuple[bool, str]:
    """Whether verify is content, and what it says."""
    plan = VerifyPlan(url, "green", **{"connections": 6, "timeout_seconds": 20} | more)
    verdict = verify_traffic(plan, Inquiry(Caller(key_headers(""), lookup), plan.timeout_seconds, told.append, 0.05))
    return verdict.outcome is Outcome.PASS, verdict.sentence


Answer = Callable[[str], tuple[int, dict[str, Any] | bytes]]


class Puppet:
    """An HTTP server that answers as it is told to, and counts its connections."""

    def __init__(self, answer: Answer) -> None:
        outer = self
        self.connections = 0
        self.hosts: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.hosts.add(self.headers.get("Host", ""))
                status, document = answer(self.path)
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://target.shop.svc:{self._server.server_address[1]}"

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
