"""Reports of the pipelines `data_segmentation`."""
