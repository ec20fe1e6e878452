"""Which files of tests start first: what takes minutes in one process must not be what all wait for in the end."""

from __future__ import annotations

# As measured by `pytest --durations=0`, the longest first, of `make slow` and of `make test` alike.
LONGEST = (
    "loaders/test_mutated_files.py",
    "live/test_schemathesis.py",
    "live/test_assignment_live.py",
    "loaders/test_mutated_states.py",
    "score/test_clouds.py",
    "pulling/test_mlflow_registry.py",
    "consuming/test_consumer_bars.py",
    "score/test_million_rows.py",
    "loaders/test_old_sklearn.py",
    "pulling/test_mlflow_buckets.py",
    "telemetry/test_drift.py",
    "live/test_malicious_models.py",
    "pulling/test_mlflow_pipeline.py",
    "pulling/test_dvc.py",
    "live/test_streams.py",
    "consuming/test_crashing_batches.py",
    "web/test_generated_clients.py",
    "live/test_watching_exact.py",
    "experiments/test_statistics.py",
    "web/test_growth.py",
    "loaders/test_estimator.py",
    "loaders/test_unpickle.py",
    "web/test_estimators_http.py",
    "pulling/test_pulling_hostile.py",
    "web/test_feedback.py",
    "score/test_shards.py",
    "live/test_gate_live.py",
    "live/test_crashing_models.py",
    "accelerate/test_accelerate_kinds.py",
    "accelerate/test_accelerate_limits.py",
)
