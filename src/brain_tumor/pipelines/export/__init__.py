"""Export: the project's patients and folds, for programs that train networks of their own."""

from brain_tumor.pipelines.export.pipeline import create_nnunet

__all__ = ["create_nnunet"]
