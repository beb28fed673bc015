"""Survival models, fitted in seconds with scikit-learn and lifelines, their cross-validation and scores."""
