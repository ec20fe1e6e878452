"""The Flask application of the usual tutorial: load with joblib, one route, one predict."""

import numpy as np
from bench_model import load_predict
from flask import Flask, jsonify, request

app = Flask(__name__)
predict_rows = load_predict()


@app.route("/predict", methods=["POST"])
def predict():
    """The tutorial reshapes to one row; `atleast_2d` lets several rows through as well."""
    features = np.atleast_2d(np.array(request.get_json()["features"]))
    return jsonify({"prediction": predict_rows(features).tolist()})
