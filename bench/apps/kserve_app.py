"""KServe's own server with a scikit-learn model; its sklearnserver, which is not on PyPI, does the same."""

import logging
import os

from bench_model import load_predict
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response

logging.disable(logging.INFO)  # here, because the workers import this file again


class Estimator(Model):
    """The estimator, under the name `model`."""

    def load(self):
        self.predict_rows = load_predict()
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        answers = self.predict_rows(get_predict_input(payload))
        return get_predict_response(payload, answers, self.name)


if __name__ == "__main__":
    model = Estimator("model")
    model.load()
    ModelServer(
        http_port=int(os.environ["BENCH_PORT"]), workers=2, enable_grpc=False, enable_latency_logging=False
    ).start([model])
