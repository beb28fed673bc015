"""Training and prediction of classification networks, and where they look."""
