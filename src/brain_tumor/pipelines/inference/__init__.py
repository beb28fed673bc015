"""New scans in and masks out, new images in and classes out: with a network that is trained already."""

from brain_tumor.pipelines.inference.pipeline import create_classification, create_segmentation

__all__ = ["create_classification", "create_segmentation"]
