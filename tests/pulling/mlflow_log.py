"""Run by MLflow's own Python: logs a model, registers it as `churn` and prints run, model id and version as JSON.

mlflow_log.py SLOPE [EXPERIMENT ARTIFACTS [BYTES]]: a linear model of one column, in an experiment whose artifacts are
there; it holds an array of as many bytes. mlflow_log.py alias VERSION: @champion is VERSION from now on.
"""

import json
import sys

import mlflow
import numpy as np
from sklearn.linear_model import LinearRegression


def main() -> None:
    """Log a model, or move the alias."""
    client = mlflow.MlflowClient()
    if sys.argv[1] == "alias":
        client.set_registered_model_alias("churn", "champion", sys.argv[2])
        return
    slope, *place = sys.argv[1:]
    experiment = mlflow.create_experiment(place[0], artifact_location=place[1]) if place else None
    rows = np.array([[0.0], [1.0], [2.0]])
    fitted = LinearRegression().fit(rows, rows[:, 0] * float(slope))
    if place[2:]:
        fitted.residuals_ = np.random.default_rng(1).integers(0, 256, int(place[2]), np.uint8)
    with mlflow.start_run(experiment_id=experiment) as run:
        info = mlflow.sklearn.log_model(fitted, name="model", registered_model_name="churn", input_example=rows)
    print(json.dumps({"run": run.info.run_id, "id": info.model_id, "version": str(info.registered_model_version)}))


main()
