"""BentoML, with its adaptive batching where BENCH_BATCH is above 1."""

import os

import bentoml
import numpy as np
from bench_model import load_predict

BATCH = int(os.environ["BENCH_BATCH"])


@bentoml.service(workers=2, traffic={"timeout": 30}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Served:
    """One route over the model."""

    def __init__(self):
        self.predict_rows = load_predict()

    @bentoml.api(batchable=BATCH > 1, max_batch_size=max(BATCH, 100), max_latency_ms=1000)
    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.predict_rows(features)
