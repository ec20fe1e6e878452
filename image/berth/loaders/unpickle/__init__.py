"""The restricted unpickler for pickle and joblib files."""
