"""Reports of the pipelines `segmentation`."""
