"""FastAPI as its documentation has it: a declared body, a declared response (pydantic reads and writes both)."""

import numpy as np
from bench_model import load_predict
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
predict_rows = load_predict()


class Rows(BaseModel):
    """One list per row."""

    features: list[list[float]]


class Predictions(BaseModel):
    """One result per row: a number, or a list of them."""

    prediction: list


@app.post("/predict")
async def predict(rows: Rows) -> Predictions:
    """On the event loop: a thread per request costs more than these models take."""
    return Predictions(prediction=predict_rows(np.array(rows.features)).tolist())
