"""Classification data: published images > index > duplicates, prepared images and sets."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.data_classification.nodes import (
    compare_images,
    draw_data,
    group_duplicates,
    index_images,
    prepare_images,
    split_images,
    write_data_report,
    write_data_sheet,
)

WRITTEN = ("index", "pairs", "duplicates", "images", "splits", "data_figures", "data_report", "data_sheet")


def create_pipeline() -> Pipeline:
    """A box of its own, whose entries start with `classification.`, as those of the networks trained on them do."""
    return Pipeline(
        [
            Node(
                index_images,
                ["source", "patients", "inspections", "params:data_set", "params:patients", "params:workers"],
                "index",
                name="index_images",
            ),
            Node(
                compare_images,
                ["index", "source", "inspections", "params:data_set", "params:duplicates", "params:workers"],
                "pairs",
                name="compare_images",
            ),
            Node(
                group_duplicates,
                ["index", "pairs", "params:data_set", "params:duplicates"],
                "duplicates",
                name="group_duplicates",
            ),
            Node(
                prepare_images,
                ["index", "source", "params:data_set", "params:preparation", "params:workers"],
                "images",
                name="prepare_images",
            ),
            Node(
                split_images, ["index", "duplicates", "params:data_set", "params:split"], "splits", name="split_images"
            ),
            Node(
                draw_data,
                ["index", "pairs", "duplicates", "splits", "source", "params:data_set", "params:duplicates"],
                "data_figures",
                name="draw_data",
            ),
            Node(
                write_data_report,
                [
                    "index",
                    "pairs",
                    "duplicates",
                    "splits",
                    "images",
                    "source",
                    "data_figures",
                    "params:data_set",
                    "params:duplicates",
                    "params:split",
                ],
                "data_report",
                name="write_data_report",
            ),
            Node(
                write_data_sheet,
                [
                    "index",
                    "duplicates",
                    "splits",
                    "images",
                    "params:data_set",
                    "params:duplicates",
                    "params:split",
                    "params:origin",
                ],
                "data_sheet",
                name="write_data_sheet",
            ),
        ],
        namespace="data_classification",
        inputs={name: f"classification.{name}" for name in ("source", "patients", "inspections")},
        outputs={name: f"classification.{name}" for name in WRITTEN},
        parameters={"workers": "preparation"},
        tags="data_engineering",
    )
