"""Reports of the pipelines `data_classification`."""
