"""Models that are fitted in seconds, with scikit-learn and lifelines."""
