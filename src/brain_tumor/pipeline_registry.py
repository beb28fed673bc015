"""The pipelines of the project by name."""

from kedro.pipeline import Pipeline

from brain_tumor.pipelines import data_segmentation, segmentation


def register_pipelines() -> dict[str, Pipeline]:
    """`segmentation` runs from raw scans to the report, `data_engineering` stops before modelling."""
    data = data_segmentation.create_pipeline()
    whole = data + segmentation.create_pipeline()
    return {"__default__": whole, "data_engineering": data, "segmentation": whole}
