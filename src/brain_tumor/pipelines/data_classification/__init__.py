"""From published images to a store without borders, the duplicates among them, and sets that share none."""

from brain_tumor.pipelines.data_classification.pipeline import create_pipeline

__all__ = ["create_pipeline"]
