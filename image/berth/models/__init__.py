"""A version on disk: its manifest, its store, and the model it becomes."""
