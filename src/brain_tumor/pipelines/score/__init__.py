"""Score: masks that somebody else predicted, against reference masks."""

from brain_tumor.pipelines.score.pipeline import create_pipeline

__all__ = ["create_pipeline"]
