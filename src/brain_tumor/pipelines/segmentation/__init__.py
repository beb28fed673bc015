"""From prepared slices to trained networks, their scores and one report."""

from brain_tumor.pipelines.segmentation.pipeline import create_pipeline, create_stress_test

__all__ = ["create_pipeline", "create_stress_test"]
