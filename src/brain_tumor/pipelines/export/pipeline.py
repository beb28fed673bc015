"""Export: raw scans > index > sets and folds > the layout of another program."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.data_segmentation import create_pipeline as create_data
from brain_tumor.pipelines.export.nodes import choose_cases, gather_cases


def create_nnunet() -> Pipeline:
    """Patients in the layout of nnU-Net, with their persons and folds."""
    known = ["index", "source", "splits", "params:data_set"]
    exported = Pipeline(
        [
            Node(choose_cases, known, "cases", name="choose_cases"),
            Node(gather_cases, ["cases", *known], "folder", name="gather_cases"),
        ],
        namespace="export_nnunet",
        inputs={name: f"segmentation.{name}" for name in ("index", "source", "splits")},
        parameters={"data_set": "data_segmentation.data_set"},
    )
    return create_data().to_outputs("segmentation.index", "segmentation.splits") + exported
