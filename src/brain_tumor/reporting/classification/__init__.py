"""Reports of the pipelines `classification`."""
