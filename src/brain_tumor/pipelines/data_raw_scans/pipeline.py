"""Raw scans: folder > native volumes > registered, brain extracted > prepared scans; and masks back."""

from kedro.pipeline import Node, Pipeline

from brain_tumor.pipelines.data_raw_scans.checks import check_scans, draw_raw_scans, write_raw_report
from brain_tumor.pipelines.data_raw_scans.dicom_seg import write_dicom_seg
from brain_tumor.pipelines.data_raw_scans.nodes import (
    extract_brains,
    import_scans,
    keep_heads,
    register_modalities,
    register_to_atlas,
    resample_scans,
    return_masks,
)

PARAMETERS = {"data_set": "data_segmentation.data_set", "settings": "data_raw_scans"}


def create_pipeline() -> Pipeline:
    """Raw scans in, prepared scans out, with a page to look at."""
    about = ["params:data_set", "params:settings"]
    placed = ["transforms", "atlas_transforms", "native", "brains"]
    return Pipeline(
        [
            Node(
                import_scans,
                ["source", *about, "params:missing_modalities"],
                ["series", "native"],
                name="import_scans",
            ),
            Node(
                register_modalities,
                ["series", "native", *about, "params:workers"],
                "transforms",
                name="register_modalities",
            ),
            Node(extract_brains, ["transforms", "native", *about], "brains", name="extract_brains"),
            Node(
                register_to_atlas,
                ["transforms", "native", "brains", *about, "params:workers"],
                "atlas_transforms",
                name="register_to_atlas",
            ),
            Node(resample_scans, [*placed, "params:data_set"], "prepared", name="resample_scans"),
            Node(keep_heads, [*placed, *about], "heads", name="keep_heads"),
            Node(check_scans, ["series", *placed, "params:data_set"], "quality", name="check_scans"),
            Node(draw_raw_scans, ["quality", *placed, *about], "figures", name="draw_raw_scans"),
            Node(
                write_raw_report,
                ["series", "transforms", "atlas_transforms", "quality", "figures", "params:settings"],
                "report",
                name="write_raw_report",
            ),
        ],
        namespace="data_raw_scans",
        parameters=PARAMETERS | {"workers": "preparation", "missing_modalities": "inference_missing_modalities"},
    )


def create_way_back() -> Pipeline:
    """Masks of prepared scans onto the grid of the raw ones, and as DICOM-SEG objects where those came as DICOM."""
    about = ["params:data_set", "params:settings"]
    return Pipeline(
        [
            Node(
                return_masks,
                ["masks", "transforms", "atlas_transforms", "native", *about],
                "native_masks",
                name="return_masks",
            ),
            Node(
                write_dicom_seg,
                ["native_masks", "series", "native", "source", "network", *about, "params:privacy"],
                "dicom_seg",
                name="write_dicom_seg",
            ),
        ],
        # A box of its own: nodes of inference stand between it and those above.
        namespace="inference_raw",
        inputs={name: f"inference_segmentation.{name}" for name in ("masks", "network")}
        | {name: f"data_raw_scans.{name}" for name in ("source", "series", "transforms", "atlas_transforms", "native")},
        parameters=PARAMETERS | {"privacy": "privacy"},
    )
