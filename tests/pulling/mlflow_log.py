"""Run by MLflow's own Python: logs a model, registers it as `churn` and prints run, model id and version as JSON.

mlflow_log.py SLOPE [EXPERIMENT ARTIFACTS] [ROWS]: a linear model of one column, in an experiment whose artifacts are
there; with ROWS, nearest neighbours that hold as many rows of 16 bytes.
mlflow_log.py alias VERSION: @champion is VERSION from now on.
"""

import json
import sys

import mlflow
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor


def main() -> None:
    """Log a model, or move the alias."""
    client = mlflow.MlflowClient()
    if sys.argv[1] == "alias":
        client.set_registered_model_alias("churn", "champion", sys.argv[2])
        return
    slope, *place = sys.argv[1:]
    experiment = mlflow.create_experiment(place[0], artifact_location=place[1]) if place else None
    rows = np.arange(float(place[2]) if place[2:] else 3.0)[:, None]
    model = KNeighborsRegressor(1, algorithm="brute") if place[2:] else LinearRegression()
    with mlflow.start_run(experiment_id=experiment) as run:
        fitted = model.fit(rows, rows[:, 0] * float(slope))
        info = mlflow.sklearn.log_model(fitted, name="model", registered_model_name="churn", input_example=rows[:3])
    print(json.dumps({"run": run.info.run_id, "id": info.model_id, "version": str(info.registered_model_version)}))


main()
