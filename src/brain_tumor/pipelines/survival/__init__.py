"""From masks and clinical tables to features, survival models and a report."""

from brain_tumor.pipelines.survival.pipeline import create_pipeline, create_predicted_pipeline

__all__ = ["create_pipeline", "create_predicted_pipeline"]
