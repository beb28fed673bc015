"""New images in, classes out: with a network that is trained already."""

from brain_tumor.pipelines.inference.pipeline import create_pipeline

__all__ = ["create_pipeline"]
