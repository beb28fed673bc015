"""The pipelines of the project by name."""

import warnings

from kedro.pipeline import Pipeline

from brain_tumor.pipelines import (
    classification,
    data_classification,
    data_raw_scans,
    data_segmentation,
    export,
    inference,
    score,
    segmentation,
    survival,
)
from brain_tumor.project.experiments import current_experiments
from brain_tumor.project.selection import ALL


def register_pipelines() -> dict[str, Pipeline]:
    """Pipelines by name.

    `segmentation`, `classification` and `survival` run from raw files to a report; `data_engineering` stops before
    modelling.

    `survival_predicted` takes the masks that the networks of `segmentation` predicted; `inference_segmentation` and
    `inference_classification` take new scans and images, and a trained network; `score` takes masks of any network.
    `stress_test` corrupts the slices of their test patients.
    `export_nnunet` writes the patients and folds of `segmentation` as nnU-Net takes them.

    `data_raw_scans` prepares scans as a hospital has them; `inference_raw` segments them too, and brings masks back.

    Without a name it is `segmentation` that runs, and that kedro-viz opens with; `all` has the three tasks.

    Each block of the parameters that names a network is an experiment.
    """
    experiments = current_experiments()
    unets, classifiers = experiments["segmentation"], experiments["classification"]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "One or more dataset names contain"
        )  # Kedro wonders at entries named after another namespace
        scans, images = data_segmentation.create_pipeline(), data_classification.create_pipeline()
        masks = scans + segmentation.create_pipeline(unets)
        classes = images + classification.create_pipeline(classifiers)
        exported = export.create_nnunet()
        expert, predicted = survival.create_pipeline(), survival.create_predicted_pipeline(unets)
        raw, way_back = data_raw_scans.create_pipeline(), data_raw_scans.create_way_back()
    return {
        "__default__": masks,
        ALL: masks + classes + expert + predicted,
        "data_engineering": scans + images,
        "segmentation": masks,
        "classification": classes,
        "survival": expert,
        "survival_predicted": predicted,
        "inference_segmentation": inference.create_segmentation(),
        "inference_classification": inference.create_classification(),
        "score": score.create_pipeline(),
        "stress_test": segmentation.create_stress_test(unets),
        "export_nnunet": exported,
        "data_raw_scans": raw,
        "inference_raw": raw + inference.create_segmentation("data_raw_scans.prepared") + way_back,
    }
