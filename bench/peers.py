"""Who is compared: one line a server, with its virtual environment, its start command and its way of asking.

Every server gets two workers or what its documentation recommends for two cores, access logs off where they can be, and
one thread for BLAS and torch in each worker. Berth runs as it is installed: its request log is on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases import HERE, MODELS, STORE, Case, model_file

APPS = HERE / "apps"
VENVS = HERE / ".venvs"
SKLEARN = frozenset({"lr", "forest", "ridge"})
EVERY = SKLEARN | {"mlp"}

Ask = Callable[[list[list[float]]], Any]
Pick = Callable[[Any], Any]


@dataclass(frozen=True)
class Start:
    """What a start command may want to know."""

    python: str
    case: Case
    port: int
    folder: Path

    @property
    def program(self) -> Callable[[str], str]:
        """The path of a script that the environment installed."""
        return lambda name: str(Path(self.python).parent / name)


@dataclass(frozen=True)
class Peer:
    """One server of the table."""

    name: str
    title: str
    package: str
    settings: str
    command: Callable[[Start], list[str]]
    path: str = "/predict"
    ask: Ask = lambda rows: {"features": rows}
    pick: Pick = lambda document: document["prediction"]
    venv: str = ""  # Berth's own without one
    models: frozenset[str] = EVERY
    environ: Callable[[Start], Mapping[str, str]] = field(default=lambda start: {})
    cases: frozenset[str] = frozenset()  # all without any

    def takes(self, case: Case) -> bool:
        """Whether it is measured in this case."""
        return case.model in self.models and (not self.cases or case.name in self.cases)

    @property
    def python(self) -> str:
        """The interpreter of its virtual environment."""
        return str(VENVS / self.venv / "bin" / "python") if self.venv else sys.executable


def _gunicorn(app: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        options = ["--worker-class", "gthread", "--workers", "2", "--threads", "8", "--log-level", "warning"]
        place = ["--bind", f"127.0.0.1:{start.port}", "--chdir", str(APPS), "--no-control-socket"]
        return [start.python, "-m", "gunicorn", *options, *place, app]

    return command


def _berth(start: Start) -> list[str]:
    options = ["--models", start.case.model, "--host", "127.0.0.1", "--port", str(start.port)]
    return [start.python, "-m", "berth", "serve", str(STORE), *options]


def _uvicorn(start: Start) -> list[str]:
    options = ["--workers", "2", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    place = ["--host", "127.0.0.1", "--port", str(start.port), "--app-dir", str(APPS)]
    return [start.python, "-m", "uvicorn", "fastapi_app:app", *options, *place, "--log-level", "warning"]


def _bentoml(start: Start) -> list[str]:
    place = ["--host", "127.0.0.1", "--port", str(start.port), "--working-dir", str(APPS)]
    return [start.program("bentoml"), "serve", "bentoml_app:Model", *place]


def _mlserver(start: Start) -> list[str]:
    model: dict[str, Any] = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(model_file(start.case.model))},
    }
    if start.case.model == "forest":
        model |= {"max_batch_size": 16, "max_batch_time": 0.001}
    (start.folder / "model-settings.json").write_text(json.dumps(model), "utf-8")
    settings = {
        "host": "127.0.0.1", "http_port": start.port, "grpc_port": start.port + 1, "metrics_port": start.port + 2,
        "debug": False, "parallel_workers": 2, "metrics_endpoint": None,
    }  # fmt: skip
    (start.folder / "settings.json").write_text(json.dumps(settings), "utf-8")
    return [start.program("mlserver"), "start", str(start.folder)]


def _mlflow(start: Start) -> list[str]:
    folder = MODELS / "mlflow" / start.case.model
    place = ["--host", "127.0.0.1", "--port", str(start.port), "--workers", "2"]
    return [start.program("mlflow"), "models", "serve", "-m", str(folder), "--env-manager", "local", *place]


def _batches(start: Start) -> dict[str, str]:
    """Batching where one call for many rows is worth the wait: the forest."""
    return {"BENCH_BATCH": "16" if start.case.model == "forest" else "1"}


def _tensor(rows: list[list[float]]) -> Any:
    shape = [len(rows), len(rows[0])]
    tensor = {"name": "predict", "shape": shape, "datatype": "FP64", "data": [value for row in rows for value in row]}
    return {"inputs": [tensor]}


BERTH = Peer(
    "berth",
    "Berth",
    "berth",
    "`berth serve`, every setting at its default",
    _berth,
    pick=lambda document: document["prediction" if "prediction" in document else "output"],
)
FLOOR = Peer(
    "floor",
    "bare gunicorn",
    "gunicorn",
    "2 gthread workers, 8 threads, a constant answer",
    _gunicorn("floor_app:app"),
    cases=frozenset({"lr-1"}),
)
ARTICLE = Peer(
    "article",
    "the article's Flask app",
    "flask",
    "gunicorn, 2 gthread workers, 8 threads",
    _gunicorn("article_app:app"),
    venv="flask",
)
PEERS = (
    BERTH,
    FLOOR,
    ARTICLE,
    Peer(
        "fastapi", "FastAPI + uvicorn", "fastapi", "2 workers, uvloop, httptools, `async def`, no access log", _uvicorn,
        venv="fastapi",
    ),
    Peer(
        "litserve", "LitServe", "litserve",
        "2 workers, 1 API server, fast queue; batches of up to 16, 1 ms, for the forest",
        lambda start: [start.python, str(APPS / "litserve_app.py")],
        venv="litserve", environ=lambda start: {"BENCH_WORKERS": "2", "BENCH_API_SERVERS": "1", **_batches(start)},
    ),
    Peer(
        "bentoml", "BentoML", "bentoml", "2 workers, metrics and access log off; adaptive batching for the forest",
        _bentoml, pick=lambda document: document, venv="bentoml", environ=_batches,
    ),
    Peer(
        "mlserver", "MLServer", "mlserver", "V2, 2 parallel workers; adaptive batching (16, 1 ms) for the forest",
        _mlserver, path="/v2/models/model/infer", ask=_tensor, pick=lambda document: document["outputs"][0]["data"],
        venv="mlserver", models=SKLEARN,
    ),
    Peer(
        "kserve", "KServe", "kserve", "V1, 2 workers, gRPC and latency log off",
        lambda start: [start.python, str(APPS / "kserve_app.py")],
        path="/v1/models/model:predict", ask=lambda rows: {"instances": rows},
        pick=lambda document: document["predictions"], venv="kserve", models=SKLEARN,
    ),
    Peer(
        "mlflow", "MLflow", "mlflow", "`mlflow models serve`, 2 workers, `inputs` without a signature", _mlflow,
        path="/invocations", ask=lambda rows: {"inputs": rows}, pick=lambda document: document["predictions"],
        venv="mlflow", models=SKLEARN,
    ),
)  # fmt: skip
