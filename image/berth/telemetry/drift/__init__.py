"""Drift: a model's recent inputs and predictions beside the sample that it was added with."""
