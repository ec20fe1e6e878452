"""onnxruntime, imported without its telemetry.

Since 1.31 its Linux wheels write a device id below the home directory and send usage data to its maker, unless a
variable of the environment says otherwise before the library is loaded.
"""

from __future__ import annotations

import os
from typing import Any

_VARIABLE = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """The module `onnxruntime`. Raises ImportError."""
    os.putenv(_VARIABLE, "1")  # for C alone, which is where it is read

    import onnxruntime

    return onnxruntime
