"""Prometheus metrics, exact over all workers."""
