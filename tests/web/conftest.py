"""A store with a model that breaks, for the tests of what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec

# Fails in the ways that models fail; counts its calls in a file beside it.
BROKEN = """
from pathlib import Path

def load(directory):
    def predict(inputs):
        kind = inputs["kind"][0]
        if kind == "value":
            raise ValueError("no such\\nplace")
        if kind == "runtime":
            raise RuntimeError("secret of /srv/model.py")
        if kind == "memory":
            raise MemoryError
        return {"prediction": inputs["kind"]}
    return predict
"""


@pytest.fixture(scope="module")
def broken_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """broken@1, which takes one string."""
    store, folder = tmp_path_factory.mktemp("broken"), tmp_path_factory.mktemp("code")
    (folder / "model.py").write_text(BROKEN, "utf-8")
    inputs, outputs = (TensorSpec("kind", "BYTES", (-1,)),), (TensorSpec("prediction", "BYTES", (-1,)),)
    request = AddRequest("broken", "1", "python", inputs=inputs, outputs=outputs)
    add_version(store, folder, request, LoadOptions(allow_code=True))
    return store
