"""Who is compared: one entry a server, with its environment, its start command and its way of asking.

Every server has two workers or what its documentation recommends for two cores, access logs off where they can be, and
one thread for BLAS and torch in each worker. Where the documentation leaves a choice that matters (batching, processes
beside the workers), every way is a variant, and the best of them for a model counts. Berth runs as it is installed.
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
class Variant:
    """One way to set a server up: in words, and as the values that its command or application reads."""

    title: str = ""
    options: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Start:
    """What a start command may want to know."""

    python: str
    case: Case
    port: int
    folder: Path
    options: Mapping[str, str]

    def program(self, name: str) -> str:
        """The path of a script that the environment installed."""
        return str(Path(self.python).parent / name)


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
    binary_path: str = ""  # its V2 route that accepts binary tensors, for a {model}; none without one
    binary_input: str = "features"
    venv: str = ""  # Berth's own without one
    models: frozenset[str] = EVERY
    cases: frozenset[str] = frozenset()  # all without any
    variants: tuple[Variant, ...] = (Variant(),)

    def takes(self, case: Case) -> bool:
        """Whether it is measured in this case."""
        listed = case.model in self.models and (not self.cases or case.name in self.cases)
        return listed and (not case.binary or bool(self.binary_path))

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


def _litserve(start: Start) -> list[str]:
    return [start.python, str(APPS / "litserve_app.py")]


def _bentoml(start: Start) -> list[str]:
    place = ["--host", "127.0.0.1", "--port", str(start.port), "--working-dir", str(APPS)]
    return [start.program("bentoml"), "serve", "bentoml_app:Served", *place]


def _mlserver(start: Start) -> list[str]:
    model = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(model_file(start.case.model))},
        "max_batch_size": int(start.options["BENCH_BATCH"]),
        "max_batch_time": 0.001,
    }
    (start.folder / "model-settings.json").write_text(json.dumps(model), "utf-8")
    settings = {
        "host": "127.0.0.1",
        "http_port": start.port,
        "grpc_port": start.port + 1,
        "metrics_endpoint": None,
        "parallel_workers": int(start.options["BENCH_WORKERS"]),
        "debug": False,
    }
    (start.folder / "settings.json").write_text(json.dumps(settings), "utf-8")
    return [start.program("mlserver"), "start", str(start.folder)]


def _kserve(start: Start) -> list[str]:
    return [start.python, str(APPS / "kserve_app.py")]


def _mlflow(start: Start) -> list[str]:
    folder = MODELS / "mlflow" / start.case.model
    place = ["--host", "127.0.0.1", "--port", str(start.port), "--workers", "2"]
    return [start.program("mlflow"), "models", "serve", "-m", str(folder), "--env-manager", "local", *place]


def _tensor(rows: list[list[float]]) -> Any:
    shape = [len(rows), len(rows[0])]
    tensor = {"name": "predict", "shape": shape, "datatype": "FP64", "data": [value for row in rows for value in row]}
    return {"inputs": [tensor]}


def _variant(title: str, workers: int, batch: int, api_servers: int = 1) -> Variant:
    numbers = {"BENCH_WORKERS": workers, "BENCH_BATCH": batch, "BENCH_API_SERVERS": api_servers}
    return Variant(title, {name: str(number) for name, number in numbers.items()})


PEERS = (
    Peer(
        "berth", "Berth", "berth", "`berth serve`, every setting at its default", _berth,
        pick=lambda document: document["prediction" if "prediction" in document else "output"],
        binary_path="/v2/models/{model}/infer",
    ),
    Peer(
        "floor", "bare gunicorn", "gunicorn", "2 gthread workers, 8 threads, a constant response",
        _gunicorn("floor_app:app"), cases=frozenset({"lr-1"}),
    ),
    Peer(
        "article", "tutorial app (Flask)", "flask", "gunicorn, 2 gthread workers, 8 threads",
        _gunicorn("article_app:app"), venv="flask",
    ),
    Peer(
        "fastapi", "FastAPI + uvicorn", "fastapi", "2 workers, uvloop, httptools, `async def`, no access log",
        _uvicorn, venv="fastapi",
    ),
    Peer(
        "litserve", "LitServe", "litserve", "fast queue, no access log", _litserve, venv="litserve",
        variants=(
            _variant("2 workers, 2 API servers", 2, 1, 2),
            _variant("2 workers, 2 API servers, batches of 16", 2, 16, 2),
            _variant("1 worker, 1 API server, batches of 16", 1, 16, 1),
        ),
    ),
    Peer(
        "bentoml", "BentoML", "bentoml", "2 workers, metrics and access log off", _bentoml,
        pick=lambda document: document, venv="bentoml",
        variants=(_variant("adaptive batching", 2, 100), _variant("no batching", 2, 1)),
    ),
    Peer(
        "mlserver", "MLServer", "mlserver", "V2, debug and metrics off", _mlserver, path="/v2/models/model/infer",
        ask=_tensor, pick=lambda document: document["outputs"][0]["data"], venv="mlserver", models=SKLEARN,
        variants=(
            _variant("2 parallel workers, batches of 16", 2, 16),
            _variant("2 parallel workers", 2, 0),
            _variant("no parallel workers, batches of 16", 0, 16),
            _variant("no parallel workers", 0, 0),
        ),
    ),
    Peer(
        "kserve", "KServe", "kserve", "V1, 2 workers, gRPC and latency log off", _kserve,
        path="/v1/models/model:predict", ask=lambda rows: {"instances": rows},
        pick=lambda document: document["predictions"], venv="kserve", models=SKLEARN,
        binary_path="/v2/models/model/infer",
    ),
    Peer(
        "mlflow", "MLflow", "mlflow", "`mlflow models serve`, 2 workers, `inputs` without a signature", _mlflow,
        path="/invocations", ask=lambda rows: {"inputs": rows}, pick=lambda document: document["predictions"],
        venv="mlflow", models=SKLEARN,
    ),
)  # fmt: skip
