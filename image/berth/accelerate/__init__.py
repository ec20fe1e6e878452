"""Fitted scikit-learn estimators as exact double-precision ONNX: converted, proven row by row, or refused by name."""
