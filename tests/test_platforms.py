"""What a platform's variables mean, and what wins over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from berth.cli.serve_command import serve
from berth.errors import SettingsError
from berth.platforms import PlatformRoutes, platform_routes, with_platform
from berth.web.endpoints import ENDPOINTS


def test_no_platform_changes_nothing() -> None:
    environ = {"HOME": "/", "BERTH_PORT": "1"}
    assert with_platform(environ) is environ
    assert platform_routes(environ) == PlatformRoutes()


def test_each_platform(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model = str(tmp_path / "model")
    sagemaker = with_platform({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert (sagemaker["BERTH_PORT"], sagemaker["BERTH_MODEL_STORE"]) == ("8080", model)
    azure = with_platform({"AZUREML_MODEL_DIR": model})
    assert (azure["BERTH_PORT"], azure["BERTH_MODEL_STORE"]) == ("5001", model)
    vertex = with_platform({"AIP_HTTP_PORT": "9", "AIP_STORAGE_URI": "gs://b/m"})
    assert (vertex["BERTH_PORT"], vertex["BERTH_MODEL_STORE"]) == ("9", "gs://b/m")
    assert "BERTH_MODEL_STORE" not in with_platform({"AIP_HTTP_PORT": "9", "AIP_STORAGE_URI": ""})


def test_berths_own_settings_win(tmp_path: Path) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "model.joblib").touch()
    found = with_platform({"AZUREML_MODEL_DIR": "/azure", "BERTH_PORT": "1", "BERTH_MODEL_STORE": str(full)})
    assert (found["BERTH_PORT"], found["BERTH_MODEL_STORE"]) == ("1", str(full))
    found = with_platform({"AZUREML_MODEL_DIR": "/azure", "PORT": "2", "BERTH_MODEL_STORE": f"file://{empty}"})
    assert "BERTH_PORT" not in found
    assert found["BERTH_MODEL_STORE"] == "/azure"


@pytest.mark.parametrize("route", ["predict", "/a b", "/<x>", "/{x}", "/" + "a" * 300])
def test_a_route_that_is_no_path(route: str) -> None:
    with pytest.raises(SettingsError, match="AIP_PREDICT_ROUTE"):
        platform_routes({"AIP_PREDICT_ROUTE": route})


def test_the_kserve_runtime_starts_the_server(tmp_path: Path) -> None:
    """The arguments are those of `berth serve`, and the probes those of its routes."""
    yaml = pytest.importorskip("yaml")
    path = Path(__file__).parents[1] / "values-examples" / "kserve-runtime.yaml"
    runtime = yaml.safe_load(path.read_text("utf-8"))
    assert (runtime["kind"], runtime["spec"]["protocolVersions"]) == ("ClusterServingRuntime", ["v1", "v2"])
    (container,) = runtime["spec"]["containers"]
    stands_for = {"{{.Name}}": "churn", "/mnt/models": str(tmp_path)}
    command, *arguments = [stands_for.get(each, each) for each in container["args"]]
    given = serve.make_context(command, arguments).params
    assert (given["target"], given["name"], given["port"]) == (tmp_path, "churn", 8080)
    rules = {endpoint.rule for endpoint in ENDPOINTS}
    assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} <= rules
