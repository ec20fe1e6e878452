"""LitServe, with its batching where BENCH_BATCH is above 1."""

import os

import litserve as ls
import numpy as np
from bench_model import load_predict

BATCH = int(os.environ["BENCH_BATCH"])


class Single(ls.LitAPI):
    """One request at a time."""

    def setup(self, device):
        self.predict_rows = load_predict()

    def decode_request(self, request):
        return np.array(request["features"])

    def predict(self, rows):
        return self.predict_rows(rows)

    def encode_response(self, answers):
        return {"prediction": answers.tolist()}


class Batched(Single):
    """Requests that wait share one call; each gets its own rows back."""

    def batch(self, inputs):
        return np.concatenate(inputs), np.cumsum([len(rows) for rows in inputs])[:-1]

    def predict(self, batch):
        rows, ends = batch
        return np.split(self.predict_rows(rows), ends)

    def unbatch(self, answers):
        return answers


if __name__ == "__main__":
    api = Batched(max_batch_size=BATCH, batch_timeout=0.001) if BATCH > 1 else Single()
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["BENCH_WORKERS"]), fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=int(os.environ["BENCH_API_SERVERS"]),
        log_level="warning",
        generate_client_file=False,
    )
