"""A format whose library is not installed says what to install."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from berth.errors import LoadError
from berth.loaders.formats import FORMATS, LoadOptions, load
from berth.models.manifest import Manifest

LIBRARIES = {
    "onnx": "onnxruntime",
    "torchscript": "torch",
    "torch-export": "torch",
    "safetensors": "safetensors",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "mlflow": "yaml",
}


@pytest.mark.parametrize(("format_", "library"), LIBRARIES.items())
def test_a_missing_library_is_a_hint(
    tmp_path: Path,
    manifest_of: Callable[..., Manifest],
    monkeypatch: pytest.MonkeyPatch,
    format_: str,
    library: str,
) -> None:
    suffix = (FORMATS[format_].suffixes or ("",))[0]
    (tmp_path / ("MLmodel" if format_ == "mlflow" else f"model{suffix}")).touch()
    monkeypatch.setitem(sys.modules, library, None)  # how Python itself says that there is no such module
    hint = re.escape(f'needs {library}, which is not installed: pip install "berth[{FORMATS[format_].extra}]"')
    with pytest.raises(LoadError, match=hint):
        load(tmp_path, manifest_of(tmp_path, format_), LoadOptions())
