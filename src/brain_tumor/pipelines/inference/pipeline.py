"""Inference: scans and images that nobody has labelled > masks and classes, with a network that is trained already."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.inference.images import (
    classify_images,
    draw_images,
    index_images,
    prepare_images,
    write_images_report,
)
from brain_tumor.pipelines.inference.scan_index import index_scans
from brain_tumor.pipelines.inference.scans import (
    draw_scans,
    measure_volumes,
    score_scans,
    segment_scans,
    write_scans_report,
)
from brain_tumor.pipelines.inference.viewers import draw_viewers


def create_classification() -> Pipeline:
    """New images > predicted class and confidence of each, and saliency maps."""
    return Pipeline(
        [
            Node(index_images, ["source", "network", "params:workers"], "index", name="index_images"),
            Node(prepare_images, ["index", "source", "network", "params:workers"], "images", name="prepare_images"),
            Node(classify_images, ["network", "index", "images", "params:training"], "classes", name="classify_images"),
            Node(draw_images, ["network", "classes", "images", "params:training"], "figures", name="draw_images"),
            Node(
                write_images_report,
                ["network", "classes", "figures", "images", "params:training"],
                "report",
                name="write_images_report",
            ),
        ],
        namespace="inference_classification",
        parameters={"workers": "preparation", "training": "training"},
    )


def create_segmentation(source: str | None = None) -> Pipeline:
    """New scans > masks, tissue volumes, and scores against reference masks where there are any.

    Args:
        source: entry of a folder of scans; None: the folder that the user gives.
    """
    return Pipeline(
        [
            Node(
                index_scans,
                ["source", "network", "params:data_set", "params:workers", "params:missing_modalities", "params:names"],
                "index",
                name="index_scans",
            ),
            Node(
                segment_scans,
                [
                    "network",
                    "index",
                    "source",
                    "params:data_set",
                    "params:prediction",
                    "params:training",
                    "params:names",
                ],
                "masks",
                name="segment_scans",
            ),
            Node(measure_volumes, ["masks", "index", "source", "params:data_set"], "volumes", name="measure_volumes"),
            Node(score_scans, ["network", "masks", "index", "source", "params:data_set"], "scores", name="score_scans"),
            Node(draw_scans, ["network", "masks", "index", "source", "params:data_set"], "figures", name="draw_scans"),
            Node(
                draw_viewers,
                ["network", "masks", "index", "scores", "source", "params:data_set", "params:viewer"],
                "viewers",
                name="draw_viewers",
            ),
            Node(
                write_scans_report,
                [
                    "network",
                    "volumes",
                    "scores",
                    "figures",
                    "viewers",
                    "params:prediction",
                    "params:training",
                    "source",
                    "masks",
                    "params:data_set",
                ],
                "report",
                name="write_scans_report",
            ),
        ],
        namespace="inference_segmentation",
        inputs={"source": source} if source else None,
        parameters={
            "workers": "preparation",
            "training": "training",
            "viewer": "viewer",
            "missing_modalities": "inference_missing_modalities",
            "names": "inference_names",
            "data_set": "data_segmentation.data_set",
            "prediction": "segmentation.prediction",
        },
    )
