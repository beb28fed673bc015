"""Classifiers that ship: scores for the header of their files, and their card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.images.split import DEDUPLICATED, OFFICIAL
from brain_tumor.figures.palette import name_network
from brain_tumor.networks import describe
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.classification.model_card import USE
from brain_tumor.reporting.classification.tables import BY_FOLDER
from brain_tumor.reporting.formatting import tell_interval, with_intervals, write_sizes
from brain_tumor.reporting.markdown import render_card, write_list
from brain_tumor.reporting.page import Section

TASK = "classification"
MARK = "classes"
"""An entry that headers of classifiers have."""

METRICS = ("accuracy", "macro_f1", "calibration_error", "calibration_error_scaled")
MADE = (
    "`kedro run --pipelines classification --env full`, policy `deduplicated`; efficientnet_lite0 by the block and the "
    "settings of docs/experiments/classification_pretrained.md. Then `python weights/collect.py classification NAMES`."
)
PROTOCOL = (
    "Macro-F1 is the mean over the classes of the test set. Intervals are 95 % expanded percentile bootstrap intervals "
    "over groups of duplicates (Hesterberg 2015); a value that no resample changes has none. The epoch was "
    "chosen on validation images, never on test images. Predictions are averaged over an image and its mirror image "
    "(test-time augmentation)."
)
ELSEWHERE = {
    "cnn": "0.571 (0.501 to 0.644) with a mean confidence of 0.85; 0.356 (0.232 to 0.487) of 118 that "
    "share no duplicate with the training folder",
    "alexnet": "0.579 (0.511 to 0.645) with a mean confidence of 0.87; 0.398 (0.263 to 0.525) of 118 that "
    "share no duplicate with the training folder",
    "efficientnet_lite0": "0.761 (0.718 to 0.802, over images) with a mean confidence of 0.86, of the 142 that it "
    "finds unlike its training images 0.711",
}
"""Accuracy of the networks that ship on images from elsewhere: docs/experiments/classification_real_images.md."""

USAGE = """\
    # the CNN
    kedro run --pipelines inference_classification --params inference_source=PATH
    # another one; efficientnet_lite0 needs timm
    kedro classify PATH --network weights/efficientnet_lite0.safetensors

Outside Kedro, `brain_tumor.networks.trained.read_network` reads a file; `description` holds the preparation of images,
and `module()` returns the network.
Scores and temperature are of the mean probability over an image and its mirror image (`tta_flip` of the recipe)."""


def measure(data: Path, name: str) -> dict[str, Any]:
    """Scores on both test sets, and the fraction of saliency inside the head, beside that of a uniform map."""
    folder = data / f"08_reporting/classification/{name}"
    scores = pd.read_csv(folder / "scores.csv").query("metric in @METRICS or metric.str.startswith('recall_')")
    rows = scores[["test_set", "metric", "value", "low", "high", "images"]].to_dict("records")
    saliency = pd.read_csv(folder / "saliency.csv", keep_default_na=False, na_values=[""]).dropna(subset="inside")
    inside, uniform = (
        float(np.average(saliency[name], weights=saliency["weight"])) for name in ("inside", "inside_uniform")
    )
    return {"scores": rows, "saliency_inside": inside, "saliency_inside_uniform": uniform}


def write_cards(networks: Sequence[TrainedNetwork]) -> dict[str, str]:
    """Name and text of the model card, one of all of them."""
    scores = pd.concat(
        [pd.DataFrame(network.description["scores"]).assign(network=network.experiment) for network in networks]
    )
    scores.loc[scores["metric"].str.startswith("calibration_error"), ["low", "high"]] = (
        np.nan
    )  # of resamples, which are worse calibrated
    whole, classes = (scores[scores["metric"].str.startswith("recall_") == of_class] for of_class in (False, True))
    tables = [
        (
            f"Scores and 95 % intervals on the {test_set} test set",
            with_intervals(whole[whole["test_set"] == test_set], "value", ["network", "images"], across="metric"),
        )
        for test_set in (DEDUPLICATED, OFFICIAL)
    ]
    recall = with_intervals(classes[classes["test_set"] == DEDUPLICATED], "value", ["network"], across="metric")
    tables.append(("Recall of each class on the deduplicated test set", recall))
    about = networks[0].description
    files = pd.DataFrame(
        [
            (
                f"{n.experiment}.safetensors",
                describe(n.name),
                n.parameters,
                write_sizes(n.sizes),
                sum(n.description["images"]),
                n.description["seed"],
            )
            for n in networks
        ],
        columns=["file", "network", "parameters", "sizes", "training images", "seed"],
    )
    limits = [
        *(_inside_head(network) for network in networks),
        "The temperature is fitted to validation images, and used where it is above 1: here it isn't. That rule was "
        "made when calibration with the fitted ones (0.82, 0.87, 0.69) was known on these test images and on SARTAJ; "
        "it changes no class and no accuracy.",
        "Earlier networks, trained on nearly the same images, were scored on nearly the same test images. Epochs and "
        "test-time augmentation were chosen on validation images. That efficientnet_lite0 uses images of a scarce "
        "source more often (`source_balance`) was thought of when errors of an earlier network on these test images "
        "were looked at; how much more was set on training images.",
        "Every image gets one of the classes. Expect many more errors on images from elsewhere, with as high a "
        "confidence.",
        *(_elsewhere(network) for network in networks if network.experiment in ELSEWHERE),
        "Training images: "
        + ", ".join(f"{count:,} {kind}" for kind, count in zip(about["classes"], about["images"], strict=True))
        + ".",
    ]
    best = scores[(scores["test_set"] == DEDUPLICATED) & (scores["metric"] == "accuracy")].sort_values("value").iloc[-1]
    summary = (
        f"{name_network(best.network)} classifies {best.value:.1%} of {best.images:,} test images without a duplicate "
        "in training (but with patients in both sets) correctly "
        f"({tell_interval(best.low, best.high, '.1%')})."
    )
    sections = [
        Section(
            "Files",
            "Their headers hold sizes, classes, preparation, recipe, temperature and scores.",
            [("Networks", files)],
        ),
        Section("Intended use", USE),
        Section("Figures", f"{BY_FOLDER} {PROTOCOL}", tables),
        Section("Known limits", write_list(limits)),
        Section("How to use them", USAGE),
        Section("How they were made", MADE),
        Section("Citations", write_list(["Nickparvar, Brain Tumor MRI Dataset, Kaggle, 10.34740/kaggle/dsv/2645886"])),
    ]
    card = render_card(
        f"Weights: classification of {about['data_set']}", summary, sections, simulated=about["simulated"]
    )
    return {"classification.md": card}


def _elsewhere(network: TrainedNetwork) -> str:
    name = network.experiment
    return (
        f"{name_network(name)} on the 394 test images of SARTAJ (Bhuvaji et al. 2020), another collection: accuracy "
        f"{ELSEWHERE[name]}. Its gliomas are said to be labelled wrongly in part."
    )


def _inside_head(network: TrainedNetwork) -> str:
    inside, uniform = (network.description[name] for name in ("saliency_inside", "saliency_inside_uniform"))
    return (
        f"{name_network(network.experiment)}: {inside:.0%} of the saliency lies inside the head, {uniform:.0%} of a "
        "uniform map does (mean over test images whose map isn't empty). Saliency at the rim or outside is not on the "
        "tumour."
    )
