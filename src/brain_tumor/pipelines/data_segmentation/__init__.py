"""From raw scans to a store of prepared slices and splits by patient."""

from brain_tumor.pipelines.data_segmentation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
