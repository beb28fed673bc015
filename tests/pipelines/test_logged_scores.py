"""The lines with which the evaluation of a network ends."""

import logging

import pandas as pd

from brain_tumor.pipelines.classification import evaluation as classification
from brain_tumor.pipelines.segmentation import evaluation as segmentation

NEVER = "is there but never found; try more epochs, or another learning rate"


def lines(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_segmentation_ends_with_dice_and_warns_of_what_is_never_predicted(caplog):
    caplog.set_level(logging.INFO)
    volumes = pd.DataFrame(
        [("WT", "dice", 0.9), ("NCR", "dice", 0.0), ("WT", "hd95_mm", 7.0)], columns=["target", "metric", "mean"]
    ).assign(patients=4)
    counts = pd.DataFrame(
        # NCR is in a reference mask alone, CYST nowhere, ED is predicted wrongly
        [("WT", 9, 1, 1), ("NCR", 0, 0, 5), ("NCR", 0, 0, 0), ("CYST", 0, 0, 0), ("ED", 0, 3, 2)],
        columns=["target", "tp", "fp", "fn"],
    )
    segmentation._log_scores("dynunet, test", volumes, counts)
    assert lines(caplog, logging.INFO) == ["dynunet, test: mean volume Dice of 4 patients: WT 0.900, NCR 0.000"]
    assert lines(caplog, logging.WARNING) == [f"dynunet, test: NCR {NEVER}"]


def test_classification_ends_with_accuracy_and_warns_of_what_is_never_found(caplog):
    caplog.set_level(logging.INFO)
    values = {"accuracy": 0.75, "recall_glioma": 1.0, "recall_notumor": 0.0, "recall_pituitary": float("nan")}
    scores = pd.DataFrame({"metric": values.keys(), "value": values.values(), "test_set": "patient", "images": 8})
    classification._log_scores("cnn", scores, ["glioma", "notumor", "pituitary"])
    assert lines(caplog, logging.INFO) == ["cnn: accuracy 0.750 on 8 images of the patient test set"]
    assert lines(caplog, logging.WARNING) == [f"cnn, patient test set: notumor {NEVER}"]
