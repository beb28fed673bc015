"""Raw scans of a hospital > scans in the position of BraTS, and masks back on the grid of the raw ones."""

from brain_tumor.pipelines.data_raw_scans.pipeline import create_pipeline, create_way_back

__all__ = ["create_pipeline", "create_way_back"]
