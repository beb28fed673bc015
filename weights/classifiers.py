"""The classifiers of a run: what their files say of them, and their card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.images.split import DEDUPLICATED, OFFICIAL
from brain_tumor.networks import describe
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.classification.model_card import USE
from brain_tumor.reporting.classification.tables import PROTOCOL
from brain_tumor.reporting.formatting import tell_interval, with_intervals, write_sizes
from brain_tumor.reporting.markdown import render_card, write_list
from brain_tumor.reporting.page import Section

TASK = "classification"
METRICS = ("accuracy", "macro_f1", "calibration_error", "calibration_error_scaled")
MADE = (
    "`kedro run --pipelines classification --env full`, policy `deduplicated`; then `python weights/collect.py "
    "classification cnn alexnet`."
)
USAGE = """\
    # the CNN
    kedro run --pipelines inference_classification --params inference_source=PATH
    # AlexNet: the same with
    #     --params inference_source=PATH,inference_network=weights/alexnet.safetensors

Outside Kedro, `brain_tumor.networks.trained.read_network` reads a file; its `description` says how images are
prepared, and `module()` is the network.
Scores and temperature are of the mean probability over an image and its mirror image (`tta_flip` of the recipe)."""


def measure(data: Path, name: str) -> dict[str, Any]:
    """What a network reached on the test sets of its run, and how much of its heat lies where."""
    folder = data / f"08_reporting/classification/{name}"
    scores = pd.read_csv(folder / "scores.csv").query("metric in @METRICS or metric.str.startswith('recall_')")
    rows = scores[["test_set", "metric", "value", "low", "high", "images"]].to_dict("records")
    looks = pd.read_csv(folder / "saliency.csv", keep_default_na=False, na_values=[""]).dropna(subset="inside")
    inside = {
        f"looks_{name}": float(np.average(looks[name], weights=looks["weight"])) for name in ("inside", "inside_flat")
    }
    return {"scores": rows} | inside


def write_card(networks: Sequence[TrainedNetwork]) -> str:
    """What the files are, what they reach, what they are for."""
    scores = pd.concat(
        [pd.DataFrame(network.description["scores"]).assign(network=network.name) for network in networks]
    )
    scores.loc[scores["metric"].str.startswith("calibration_error"), ["low", "high"]] = (
        np.nan
    )  # of resamples, which are worse calibrated
    images = scores.groupby("test_set")["images"].first()
    whole, classes = (scores[scores["metric"].str.startswith("recall_") == of_class] for of_class in (False, True))
    tables = [
        (
            f"Scores and 95 % intervals on the {test_set} test set, {images[test_set]:,} images",
            with_intervals(whole[whole["test_set"] == test_set], "value", ["network"], across="metric"),
        )
        for test_set in (DEDUPLICATED, OFFICIAL)
    ]
    recall = with_intervals(classes[classes["test_set"] == DEDUPLICATED], "value", ["network"], across="metric")
    tables.append(("Recall of each class on the deduplicated test set", recall))
    about = networks[0].description
    files = pd.DataFrame(
        [
            (
                f"{n.name}.safetensors",
                describe(n.name),
                n.parameters,
                write_sizes(n.sizes),
                sum(n.description["images"]),
                n.description["seed"],
            )
            for n in networks
        ],
        columns=["file", "network", "parameters", "sizes", "images learned from", "seed"],
    )
    limits = [
        *(_look(network) for network in networks),
        (
            "Temperature fits the validation images; test images come from other sources in part, where the "
            "networks are less often right than they are sure."
        ),
        "Networks trained before these, on nearly the same images, were scored on nearly the same test "
        "images: without mirror images, and with them, which "
        "validation images preferred. Nothing was chosen by test scores.",
        (
            "Any image is given one of the classes. Scans of another hospital, or prepared in another way, are "
            "not like those that were learned from."
        ),
        "Learned from the images of "
        + ", ".join(f"{count:,} {kind}" for kind, count in zip(about["classes"], about["images"], strict=True))
        + ".",
    ]
    best = scores[(scores["test_set"] == DEDUPLICATED) & (scores["metric"] == "accuracy")].sort_values("value").iloc[-1]
    summary = (
        f"{best.network} classifies {best.value:.1%} of {best.images:,} test images without copies rightly "
        f"({tell_interval(best.low, best.high, '.1%')})."
    )
    sections = [
        Section(
            "Files",
            "Each describes itself: sizes, classes, preparation, recipe, temperature and scores are in its header.",
            [("Networks", files)],
        ),
        Section("Intended use", USE),
        Section("Figures", PROTOCOL, tables),
        Section("Known limits", write_list(limits)),
        Section("How to use them", USAGE),
        Section("How they were made", MADE),
        Section("Citations", write_list(["Nickparvar, Brain Tumor MRI Dataset, Kaggle, 10.34740/kaggle/dsv/2645886"])),
    ]
    return render_card(
        f"Weights: classification of {about['data_set']}", summary, sections, simulated=about["simulated"]
    )


def _look(network: TrainedNetwork) -> str:
    inside, flat = (network.description[f"looks_{name}"] for name in ("inside", "inside_flat"))
    return (
        f"{network.name} has {inside:.0%} of its heat inside the head, where a map that is the same "
        f"everywhere would have {flat:.0%}: mean over the test "
        "images in which some place speaks for the class found. What lies in the rim or outside is not the tumour."
    )
