"""What the metrics keep of a prediction's values."""

from __future__ import annotations

from collections.abc import Mapping

from berth.models.model import Model
from berth.telemetry.metrics.registry import ModelMetrics
from berth.tensors.arrays import Array


def count_outputs(model: Model, metrics: ModelMetrics, answer: Mapping[str, Array]) -> None:
    """Classes by name, values into their histogram; classes may well be floating numbers."""
    if (prediction := answer.get("prediction")) is None or prediction.ndim != 1:
        return
    if prediction.dtype.kind == "f" and not any(spec.labels for spec in model.outputs):
        metrics.observe_values(prediction)
    else:
        metrics.count_predictions(prediction.tolist())
