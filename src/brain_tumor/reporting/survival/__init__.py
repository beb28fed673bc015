"""Reports of the pipelines `survival`."""
