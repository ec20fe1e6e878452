"""A real Prometheus of this machine that scrapes a few targets each second, and what its queries return."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import yaml

from live.server import HOST, free_port, wait_until

PROGRAM = shutil.which("prometheus")


class Prometheus:
    """One process over a folder of its own; `targets` are ports, each with the labels that its series get."""

    def __init__(self, folder: Path, targets: Mapping[int, Mapping[str, str]]) -> None:
        static = [{"targets": [f"{HOST}:{port}"], "labels": dict(labels)} for port, labels in targets.items()]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "berth", "static_configs": static}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        port = free_port()
        files = [
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        ]
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [PROGRAM or "", *files, f"--web.listen-address={HOST}:{port}"], stdout=self._log, stderr=subprocess.STDOUT
        )
        self._url = f"http://{HOST}:{port}"
        self._targets = len(targets)

    def _get(self, path: str, **query: str) -> Any:
        with build_opener(ProxyHandler({})).open(f"{self._url}{path}?{urlencode(query)}", timeout=10) as response:
            return json.load(response)["data"]

    def _is_scraping(self) -> bool:
        try:
            targets = self._get("/api/v1/targets")["activeTargets"]
        except OSError:
            return False
        return [target["health"] for target in targets] == ["up"] * self._targets

    def wait_scraping(self) -> None:
        """Wait until every target has been scraped."""
        wait_until(self._is_scraping, "the first scrape of every target")

    def query(self, expression: str) -> list[float]:
        """What an expression returns now, without NaN."""
        result = self._get("/api/v1/query", query=expression)["result"]
        values = [float(sample["value"][1]) for sample in result]
        return [value for value in values if not math.isnan(value)]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)
        self._log.close()
