"""What every application here loads: a joblib estimator or a TorchScript net, as a function of rows."""

import os

MODEL = os.environ.get("BENCH_MODEL", "")


def load_predict():
    """The model in BENCH_MODEL as `predict(rows: ndarray) -> ndarray`."""
    if not MODEL.endswith(".pt"):
        import joblib

        return joblib.load(MODEL).predict
    import torch

    torch.set_num_threads(1)
    net = torch.jit.load(MODEL).eval()

    def predict(rows):
        with torch.inference_mode():
            return net(torch.as_tensor(rows, dtype=torch.float32)).numpy()

    return predict
