"""What the classification report says."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.images.split import DEDUPLICATED, OFFICIAL
from brain_tumor.metrics.saliency import mean_shares
from brain_tumor.reporting.classification.tables import (
    EXPLAINED,
    PROTOCOL,
    count_sets,
    score_calibration,
    score_classes,
    score_sets,
    write_answer,
)
from brain_tumor.reporting.formatting import write_interval
from brain_tumor.reporting.interactive_plot import Plot, draw_strip
from brain_tumor.reporting.page import Picture, Section, Words, render_report
from brain_tumor.reporting.settings_table import TRAINING, describe_settings

WORDS = {
    "1_curves": Words(
        "Loss and validation scores over the epochs; the dotted line is the epoch whose weights were kept.",
        (
            "two line charts over the epochs: the loss of training and of validation; accuracy, macro-F1 and "
            "likelihood on validation images"
        ),
    ),
    "2_confusion": Words(
        "Test images by class there (rows) and found (columns).",
        (
            "two tables in shades of blue, for the test set as published and without copies: images by class "
            "there and class found"
        ),
    ),
    "3_reliability": Words(
        "Accuracy in bins of confidence on the deduplicated test set, before and after the logits are "
        "divided by the temperature that fits "
        "validation. Perfect calibration is the dotted line; the red lines are the errors; larger dots are "
        "more images.",
        (
            "two charts of accuracy against confidence, as trained and with the temperature; the calibration "
            "errors are in the table of scores"
        ),
    ),
    "4_kernels": Words(
        "Kernels of the first layer, summed over the channels.",
        "small grey squares, one for each kernel of the first layer",
    ),
    "5_looks": Words(
        (
            "Test images that are classified rightly, and what speaks for the class found: HiResCAM of the "
            "last convolution, or attention rollout."
        ),
        (
            "pairs of images: the scan, and the scan with its heat in colour, some for each class, with the "
            "class there, the class found and the confidence"
        ),
    ),
    "6_regions": Words(
        (
            "Mean share of the heat in each region by class of the test images; the black lines are the share "
            "of a map that is the same everywhere."
        ),
        (
            "bars for each class: the share of the heat outside the head, in its rim and inside; the table "
            "“where they look” has the numbers"
        ),
    ),
    "7_mistakes": Words(
        "The mistakes that the network is most certain of, among the images that are looked at.",
        (
            "pairs of images that are classified wrongly: the scan, and the scan with its heat in colour, with "
            "the class there, the class found and the confidence"
        ),
    ),
}
CALIBRATION = (
    "Confidence and expected calibration error, as trained and (scaled) with the temperature that fits validation"
)
TEST_SETS = (DEDUPLICATED, OFFICIAL)
HIT = {True: "found rightly", False: "taken for another class"}
LOOKING = (
    "Share of the heat inside the head, in its rim (skull and scalp, 7 % of the image's side deep), and "
    "outside, with the share that a flat map would have, "
    "which is the same everywhere: maps of the CNN and AlexNet don't reach the edge of the image, so most "
    "of a flat one lies inside too. A network with "
    "more heat outside or in the rim than a flat map is right for a reason that is not the tumour. "
    f"Up to {EXPLAINED} images of the deduplicated test set are looked at, mistakes first; in means and "
    "shares right and wrong ones weigh as in the set."
)


def compose_report(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    about: Mapping[str, Any],
    splits: pd.DataFrame,
    duplicates: pd.DataFrame,
    looks: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Mapping[str, bytes]],
    settings: Mapping[str, Any],
) -> str:
    """The page of one run: the answer, the comparison, where the networks look, each network, the data, settings and versions.

    Args:
        about: the description of the prepared store.
        looks: network > rows `file`, `class`, `predicted`, `confidence`, `weight`, and shares of the heat.
        figures: network > name > PNG.
        settings: block > setting > value.
    """
    scores = score_sets(comparison)
    compared = [
        scores[OFFICIAL],
        ("McNemar's exact test, p-values also after Holm", differences),
        (CALIBRATION, score_calibration(comparison)),
    ]
    sections = [
        Section("Networks compared", PROTOCOL, compared, plots=[_compared(comparison)]),
        Section(
            "Where they look",
            f"{LOOKING} {_elsewhere(looks)}",
            [("Means over test images of the deduplicated set", _regions(looks))],
        ),
        *(_network(name, comparison, looks[name], figures[name]) for name in figures),
        _data(splits, duplicates),
        describe_settings(settings, TRAINING),
    ]
    title = f"Classification of {about['data_set']}"
    return render_report(
        title, write_answer(comparison, about, splits), scores[DEDUPLICATED], sections, simulated=about["simulated"]
    )


def _compared(comparison: pd.DataFrame) -> Plot:
    shown = comparison[comparison["metric"].isin(["accuracy", "macro_f1"])]
    metric = shown["metric"].replace({"macro_f1": "macro-F1"})
    said = [
        (
            f"{row.network}: {name} {write_interval(row.value, row.low, row.high)}, {row.test_set} test set, "
            f"{row.images:,} images"
        )
        for name, row in zip(metric, shown.itertuples(), strict=True)
    ]
    dots = shown.assign(
        column=metric + ", " + shown["test_set"], series=shown["network"], name=shown["network"], says=said
    )
    return draw_strip(
        dots.sort_values("column", kind="stable"),
        "score",
        "Accuracy and macro-F1 on both test sets, with 95 % intervals over groups of copies.",
    )


def _network(name: str, comparison: pd.DataFrame, looks: pd.DataFrame, figures: Mapping[str, bytes]) -> Section:
    pictures = [Picture(png, WORDS[key], name) for key, png in figures.items()]
    tables = [
        (f"Precision and recall of each class on the {test_set} test set", score_classes(comparison, name, test_set))
        for test_set in TEST_SETS
    ]
    return Section(name, "", tables, pictures, [_confidence(looks)])


def _confidence(looks: pd.DataFrame) -> Plot:
    """Each image whose heat was looked at, by the class there."""
    said = [
        f"{row.file}: {row.predicted} with confidence {row.confidence:.3f}"
        for row in looks.rename(columns={"class": "there"}).itertuples()
    ]
    series = (looks["class"] == looks["predicted"]).map(HIT)
    dots = looks.assign(
        column=looks["class"], value=looks["confidence"], name=looks["file"], series=series, says=said
    ).sort_values("class", kind="stable")
    wrong = looks.loc[looks["class"] != looks["predicted"], "weight"]
    caption = (
        f"Confidence of the class found in {len(looks)} test images of the deduplicated set, {len(wrong)} "
        f"of {wrong.sum():.0f} mistakes among them, by the "
        "class there. Point at a dot to see which image it is, and how the other networks fare with it."
    )
    return draw_strip(dots, "confidence", caption, list(HIT.values()))


def _regions(looks: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat({name: mean_shares(rows) for name, rows in looks.items()}, names=["network"]).reset_index()
    return table.rename(columns=lambda name: name.replace("_flat", ", flat map"))


def _elsewhere(looks: Mapping[str, pd.DataFrame]) -> str:
    words = []
    for name, rows in looks.items():
        chosen = rows["inside"] < rows["inside_flat"], rows["inside"].isna()
        elsewhere, nowhere = (np.average(images, weights=rows["weight"]) for images in chosen)
        none = f", and none anywhere in {nowhere:.1%}" if nowhere else ""
        words.append(
            f"{name} has less of its heat inside the head than a flat map in {elsewhere:.1%} of the test images{none}"
        )
    return "; ".join(words) + "."


def _data(splits: pd.DataFrame, duplicates: pd.DataFrame) -> Section:
    text = (
        f"{len(duplicates):,} images have copies, in {duplicates['group'].nunique():,} groups; "
        "`data_report.html` shows them, `duplicates.csv` lists them."
    )
    return Section("Data", text, [("Images of each class in each set", count_sets(splits))])
