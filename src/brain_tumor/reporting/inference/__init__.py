"""Reports of the pipelines `inference`."""
