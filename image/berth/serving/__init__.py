"""A loaded model answers requests: admission, batching, cache, lifecycle."""
