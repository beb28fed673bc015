"""From prepared images to trained networks, their scores, where they look, and one report."""

from brain_tumor.pipelines.classification.pipeline import create_pipeline

__all__ = ["create_pipeline"]
