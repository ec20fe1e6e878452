"""`berth import-mlserver`: one line a model, an exit code, and a store that can be served."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from publishing.mlserver_folders import mms_svm, write_settings


def test_a_repository_with_a_model_that_has_no_equivalent(tmp_path: Path) -> None:
    models, store = tmp_path / "models", tmp_path / "store"
    mms_svm(models / "mnist-mms")
    write_settings(models / "text", "mlserver_huggingface.HuggingFaceRuntime", "text")
    (models / "settings.json").write_text(json.dumps({"debug": "true", "http_port": 9000}), "utf-8")
    command = [sys.executable, "-m", "berth", "import-mlserver", str(models), "--store", str(store)]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 1
    assert "mnist-mms/model-settings.json: added mnist-mms@v0.1.0 (joblib)" in first.stdout
    assert "settings.json: set BERTH_LOG_LEVEL=debug BERTH_PORT=9000" in first.stdout
    assert first.stderr.count("\n") == 1
    assert first.stderr.startswith("text/model-settings.json: not imported: no equivalent of 'mlserver_huggingface.")
    assert (store / "mnist-mms" / "v0.1.0" / "model.json").is_file()
    (models / "text" / "model-settings.json").unlink()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1  # a version never changes
    assert "already in the store" in again.stderr
