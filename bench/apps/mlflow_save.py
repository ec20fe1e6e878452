"""Saves an estimator as an MLflow model folder: mlflow_save.py MODEL.joblib FOLDER."""

import sys

import joblib
import mlflow.sklearn

mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], serialization_format="cloudpickle")
