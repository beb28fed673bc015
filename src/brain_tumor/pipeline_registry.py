"""The pipelines of the project by name."""

from kedro.pipeline import Pipeline

from brain_tumor.pipelines import data_segmentation, segmentation, survival


def register_pipelines() -> dict[str, Pipeline]:
    """`segmentation` and `survival` run from raw files to a report, `data_engineering` stops before modelling.

    `survival_predicted` takes the masks that the networks of `segmentation` predicted.
    """
    data = data_segmentation.create_pipeline()
    whole = data + segmentation.create_pipeline()
    expert, predicted = survival.create_pipeline(), survival.create_predicted_pipeline()
    return {"__default__": whole + expert + predicted, "data_engineering": data, "segmentation": whole, "survival": expert, "survival_predicted": predicted}
