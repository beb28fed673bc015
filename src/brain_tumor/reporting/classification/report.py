"""What the classification report says."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.images.split import DEDUPLICATED, OFFICIAL
from brain_tumor.figures.palette import BLUE, VERMILLION, colour_networks, name_network
from brain_tumor.metrics.saliency import mean_shares
from brain_tumor.reporting.classification.tables import (
    EXPLAINED,
    PROTOCOL,
    SAME,
    count_sets,
    find_best,
    score_calibration,
    score_classes,
    score_sets,
    sets_differ,
    write_answer,
)
from brain_tumor.reporting.formatting import write_interval
from brain_tumor.reporting.interactive_plot import Plot, draw_strip
from brain_tumor.reporting.page import Fold, HeatMap, Picture, Section, Words, render_report
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
        "Test images by true class (rows) and predicted class (columns).",
        "a table in shades of blue for each test set: images by true class and predicted class",
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
            "Test images that are classified correctly, and the saliency map of the predicted class: HiResCAM of the "
            "last convolution, or attention rollout."
        ),
        (
            "pairs of images: the scan, and the scan with its saliency map in colour, some for each class, with true "
            "class, predicted class and confidence"
        ),
    ),
    "6_regions": Words(
        (
            "Mean share of the saliency in each region by class of the test images; the black lines are the share of "
            "a uniform map."
        ),
        (
            "bars for each class: the share of the saliency outside the head, in its rim and inside; the section on "
            "saliency has the numbers"
        ),
    ),
    "7_mistakes": Words(
        "The mistakes with the highest confidence, among the images that saliency maps were computed for.",
        (
            "pairs of images that are classified wrongly: the scan, and the scan with its saliency map in colour, "
            "with true class, predicted class and confidence"
        ),
    ),
}
CALIBRATION = (
    "Confidence and expected calibration error, as trained and (scaled) with the temperature that fits validation"
)
TEST_SETS = (DEDUPLICATED, OFFICIAL)
HIT = {True: "correct", False: "another class predicted"}
COLOURS = dict(zip(HIT.values(), (BLUE, VERMILLION), strict=True))
PHOTOS = {"5_looks", "7_mistakes"}
"""Figures made of images."""

SALIENCY = (
    "Share of the saliency inside the head, in its rim (skull and scalp, 7 % of the image's side deep), and outside, "
    "beside the share of a uniform map: maps of the CNN and AlexNet don't reach the edge of the image, so most of a "
    "uniform one lies inside too. A network with more saliency outside or in the rim than a uniform map is right for a "
    f"reason that is not the tumour. Saliency maps are computed for up to {EXPLAINED} images of the deduplicated set, "
    "mistakes first; in means and shares correct images and mistakes weigh as in the set."
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
    """The page of one run: the answer, the comparison, saliency, each network, the data, settings and versions.

    Args:
        about: the description of the prepared store.
        looks: network > rows `file`, `class`, `predicted`, `confidence`, `weight`, and shares of the saliency.
        figures: network > name > PNG.
        settings: block > setting > value.
    """
    scores = score_sets(comparison)
    differ = sets_differ(comparison)
    best = find_best(comparison)
    folds = [
        Fold("Differences between networks", tables=[("McNemar's exact test, p-values also after Holm", differences)]),
        Fold("Calibration", tables=[(CALIBRATION, score_calibration(comparison))]),
        Fold("How measured", PROTOCOL),
    ]
    tables = [scores[OFFICIAL]] if differ else []
    saliency = ("Means over test images of the deduplicated set", _regions(looks))
    sections = [
        Section("Networks compared", "" if differ else SAME, tables, plots=[_compared(comparison)], folds=folds),
        Section("Saliency", _elsewhere(looks), folds=[Fold("Saliency by region, in numbers", SALIENCY, [saliency])]),
        *(_describe_network(name, comparison, looks[name], figures[name], shown=name == best) for name in figures),
        _data(splits, duplicates),
        describe_settings(settings, TRAINING),
    ]
    title = f"Classification of {about['data_set']}"
    answer = write_answer(comparison, about, splits)
    # The deduplicated set is on top: scores on the other one count duplicates of training images.
    caption, table = scores[DEDUPLICATED]
    shaded = [name for name in table if name not in ("network", "parameters")]
    heat = HeatMap(f"{caption}; more colour is higher", table[["network", *shaded, "parameters"]], shaded)
    on_top = {name: png for name, png in figures.get(best, {}).items() if name == "5_looks"}
    pictures = [_picture(best, name, png) for name, png in on_top.items()]
    return render_report(title, answer, heat, sections, simulated=about["simulated"], pictures=pictures)


def _picture(name: str, figure: str, content: bytes) -> Picture:
    photo = figure in PHOTOS
    return Picture(content, WORDS[figure], name_network(name), photo=photo, wide=photo)


def _compared(comparison: pd.DataFrame) -> Plot:
    # Sets of the same images have the same scores: one is shown.
    sets = TEST_SETS if sets_differ(comparison) else TEST_SETS[:1]
    of_sets = comparison[comparison["test_set"].isin(sets)]
    shown = of_sets[of_sets["metric"].isin(["accuracy", "macro_f1"])]
    metric = shown["metric"].replace({"macro_f1": "macro-F1"})
    names = shown["network"].map(name_network)
    said = [
        f"{network}: {name} {write_interval(row.value, row.low, row.high)}, {row.test_set} test set, "
        f"{row.images:,} images"
        for network, name, row in zip(names, metric, shown.itertuples(), strict=True)
    ]
    column = metric + ", " + shown["test_set"] if len(sets) > 1 else metric
    dots = shown.assign(column=column, series=names, name=names, says=said)
    # Stable: networks keep their order within a column.
    dots = dots.sort_values("column", kind="stable")
    caption = "Accuracy and macro-F1, with 95 % intervals over groups of duplicates."
    return draw_strip(dots, "score", caption, colours=colour_networks(names))


def _describe_network(
    name: str,
    comparison: pd.DataFrame,
    looks: pd.DataFrame,
    figures: Mapping[str, bytes],
    *,
    shown: bool,
) -> Section:
    """Of one network its images (if they aren't shown already), its curves and figures, its scores of each class."""
    left = dict(figures)
    if shown:
        left.pop("5_looks", None)
    # False sorts before True: images come first, the others keep their order.
    order = sorted(left, key=lambda figure: figure not in PHOTOS)
    pictures = [_picture(name, figure, left[figure]) for figure in order]
    tables = [
        (f"Precision and recall of each class on the {test_set} test set", score_classes(comparison, name, test_set))
        for test_set in (TEST_SETS if sets_differ(comparison) else TEST_SETS[:1])
    ]
    folds = [Fold("Precision and recall of each class", tables=tables)]
    return Section(
        name_network(name),
        pictures=pictures,
        plots=[_confidence(looks)],
        folds=folds,
    )


def _confidence(looks: pd.DataFrame) -> Plot:
    """Each image that a saliency map was computed for, by true class."""
    # `class` can't be the name of a tuple's field.
    rows = looks.rename(columns={"class": "there"}).itertuples()
    said = [f"{row.file}: {row.predicted} with confidence {row.confidence:.3f}" for row in rows]
    series = (looks["class"] == looks["predicted"]).map(HIT)
    dots = looks.assign(
        column=looks["class"],
        value=looks["confidence"],
        name=looks["file"],
        series=series,
        says=said,
    )
    # A weight is the number of test images that one stands for.
    wrong = looks.loc[looks["class"] != looks["predicted"], "weight"]
    caption = (
        f"Confidence in the predicted class of {len(looks)} test images of the deduplicated set, {len(wrong)} "
        f"of {wrong.sum():.0f} mistakes among them, by true class. Point at a dot to see which image it is; it lights "
        "up in the plots of the other networks too."
    )
    dots = dots.sort_values("class", kind="stable")
    return draw_strip(dots, "confidence", caption, list(HIT.values()), COLOURS)


def _regions(looks: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    shares = {name_network(name): mean_shares(rows) for name, rows in looks.items()}
    table = pd.concat(shares, names=["network"]).reset_index()
    return table.rename(columns=lambda name: name.replace("_uniform", ", uniform map"))


def _elsewhere(looks: Mapping[str, pd.DataFrame]) -> str:
    words = []
    for name, rows in looks.items():
        # An empty map has no shares: NaN is not less than a number, so that it counts as nowhere alone.
        elsewhere = np.average(rows["inside"] < rows["inside_uniform"], weights=rows["weight"])
        nowhere = np.average(rows["inside"].isna(), weights=rows["weight"])
        none = f", and none anywhere in {nowhere:.1%}" if nowhere else ""
        words.append(
            f"{name_network(name)} has less of its saliency inside the head than a uniform map in {elsewhere:.1%} of "
            f"the test images{none}"
        )
    return "; ".join(words) + "."


def _data(splits: pd.DataFrame, duplicates: pd.DataFrame) -> Section:
    text = (
        f"{len(duplicates):,} images have duplicates, in {duplicates['group'].nunique():,} groups; "
        "`data_report.html` shows them, `duplicates.csv` lists them."
    )
    return Section("Data", text, [("Images of each class in each set", count_sets(splits))])
