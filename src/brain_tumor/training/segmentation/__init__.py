"""Training and prediction of segmentation networks."""
