"""What is observed: logs, traces, metrics, payloads."""
