"""Segmentation data: raw scans > index > prepared slices and splits."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.data_segmentation.nodes import (
    describe_patients,
    draw_data,
    index_slices,
    prepare_slices,
    split_patients,
    write_data_report,
    write_data_sheet,
)

WRITTEN = ("index", "slices", "patients", "splits", "data_figures", "data_report", "data_sheet")


def create_pipeline() -> Pipeline:
    """A box of its own, whose entries start with `segmentation.`, as those of the networks trained on them do."""
    known = ["patients", "index", "splits", "slices"]
    return Pipeline(
        [
            Node(
                index_slices,
                ["source", "inspections", "params:data_set", "params:workers"],
                "index",
                name="index_slices",
            ),
            Node(
                prepare_slices,
                ["index", "source", "params:data_set", "params:preparation", "params:workers"],
                "slices",
                name="prepare_slices",
            ),
            Node(describe_patients, ["index", "source", "params:data_set"], "patients", name="describe_patients"),
            Node(split_patients, ["patients", "params:split"], "splits", name="split_patients"),
            Node(draw_data, ["slices", "index", "patients"], "data_figures", name="draw_data"),
            Node(
                write_data_report,
                [*known, "source", "data_figures", "params:preparation", "params:split"],
                "data_report",
                name="write_data_report",
            ),
            Node(
                write_data_sheet,
                [*known, "source", "params:data_set", "params:split", "params:origin"],
                "data_sheet",
                name="write_data_sheet",
            ),
        ],
        namespace="data_segmentation",
        inputs={name: f"segmentation.{name}" for name in ("source", "inspections")},
        outputs={name: f"segmentation.{name}" for name in WRITTEN},
        parameters={"workers": "preparation"},
        tags="data_engineering",
    )
