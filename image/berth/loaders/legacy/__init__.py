"""Models that an older scikit-learn saved: read as what they were, and brought to today's classes with their own meaning."""
