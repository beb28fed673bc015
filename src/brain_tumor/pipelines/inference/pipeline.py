"""Inference: images that nobody has labelled > the class of each, how sure the network is, and where it looks."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.inference.nodes import classify_images, draw_images, index_images, prepare_images, write_report


def create_pipeline() -> Pipeline:
    """Classification of new images."""
    return Pipeline(
        [
            Node(index_images, ["source", "params:workers"], "index", name="index_images"),
            Node(prepare_images, ["index", "source", "network", "params:workers"], "images", name="prepare_images"),
            Node(classify_images, ["network", "index", "images", "params:training"], "classes", name="classify_images"),
            Node(draw_images, ["network", "classes", "images", "params:training"], "figures", name="draw_images"),
            Node(write_report, ["network", "classes", "figures", "params:training"], "report", name="write_report"),
        ],
        namespace="inference_classification",
        parameters={"workers": "preparation", "training": "training"},
    )
