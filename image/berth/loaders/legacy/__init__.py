"""Models that an older scikit-learn saved: brought to today's classes, with the meaning of their own version."""
