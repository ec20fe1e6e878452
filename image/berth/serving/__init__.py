"""A loaded model serves requests: admission, batching, cache, lifecycle."""
