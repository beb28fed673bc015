"""What the classification report says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.figures.palette import BLUE, VERMILLION, colour_networks, name_network
from brain_tumor.metrics.saliency import mean_on_tumour, mean_shares
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.classification.tables import (
    CALIBRATION,
    EXPLAINED,
    SAME,
    count_sets,
    describe_protocol,
    find_best,
    list_test_sets,
    score_calibration,
    score_classes,
    score_sets,
    score_sources,
    sets_differ,
    write_answer,
)
from brain_tumor.reporting.formatting import with_intervals, write_interval, write_intervals
from brain_tumor.reporting.interactive_plot import Plot, draw_strip
from brain_tumor.reporting.leaderboard import lead
from brain_tumor.reporting.page import Fold, HeatMap, Picture, Section, Words, render_report
from brain_tumor.reporting.settings_table import TRAINING, describe_settings
from brain_tumor.reporting.uncertainty import CURVES, HEADING, ORDER, spread_order, tell_least_sure

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
        "Accuracy in bins of confidence on the first test set, before and after the logits are "
        "divided by the temperature that fits validation, at least 1. Perfect calibration is the dotted line; the red "
        "lines are the errors; larger dots are more images.",
        (
            "two charts of accuracy against confidence, as trained and with the temperature; the calibration "
            "errors are in the table of scores"
        ),
    ),
    "4_kernels": Words(
        "Kernels of the first layer, summed over the channels.",
        "small grey squares, one for each kernel of the first layer",
    ),
    "5_saliency": Words(
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
TUMOUR = {
    "correct": "classified",
    "tumour": "on tumour",
    "tumour_uniform": "uniform map",
    "tumour_centre": "centre map",
    "pointing": "maximum on tumour",
    "pointing_centre": "centre's maximum",
    "auc": "AUC",
    "auc_centre": "AUC, centre map",
}
"""Columns of the comparison with outlines, and their headings."""

LEAKS = {
    "patient": "no patient, no duplicate in training",
    "deduplicated": "patients in training, no duplicate",
    "official": "patients and duplicates in training",
}
"""Test set > what of its images training has seen."""

HIT = {True: "correct", False: "another class predicted"}
COLOURS = dict(zip(HIT.values(), (BLUE, VERMILLION), strict=True))
PHOTOS = {"5_saliency", "7_mistakes"}
"""Figures made of images."""

CONFIDENCE = (
    "Confidence is the probability of the predicted class at the temperature that fits validation (at least 1), from "
    "the same prediction as the class: the mean over an image and its mirror image with `tta_flip`. AUROC is how "
    "often, of an image that is right and one that is wrong, the right one has the higher confidence."
)
SALIENCY = (
    "Share of the saliency inside the head, in its rim (skull and scalp, 7 % of the image's side deep), and outside, "
    "beside the share of a uniform map: maps of the CNN and AlexNet don't reach the edge of the image, so most of a "
    "uniform one lies inside too. A network with more saliency outside or in the rim than a uniform map is right for a "
    f"reason that is not the tumour. Saliency maps are computed for up to {EXPLAINED} images of the first test set, "
    "mistakes first; in means and shares correct images and mistakes weigh as in the set."
)


def compose_report(
    tables: Sequence[pd.DataFrame],
    about: Mapping[str, Any],
    saliency: Mapping[str, pd.DataFrame],
    policies: pd.DataFrame,
    compared: Mapping[str, bytes],
    figures: Mapping[str, Mapping[str, bytes]],
    networks: Mapping[str, TrainedNetwork],
    settings: Mapping[str, Any],
) -> str:
    """The page of one run: the answer, the comparison, saliency, each network, the data, settings and versions.

    Args:
        tables: comparison, differences, costs, uncertainty, splits, duplicates.
        about: the description of the prepared store.
        policies: scores of the same networks under other policies; rows `network`, `policy`, `test_set`, `metric`,
            `value`, `low`, `high`, `images`, `persons`.
        saliency: network > rows `file`, `class`, `predicted`, `confidence`, `weight`, and shares of the saliency.
        compared: of the comparison, name > PNG.
        figures: network > name > PNG.
        networks: experiment > its network.
        settings: block > setting > value.
    """
    comparison, differences, costs, uncertainty, splits, duplicates = tables
    scores, test_sets = score_sets(comparison), list_test_sets(comparison)
    best = find_best(comparison)
    folds = [
        Fold("Differences between networks", tables=[("McNemar's exact test, p-values also after Holm", differences)]),
        Fold("Calibration", tables=[(CALIBRATION, score_calibration(comparison))]),
        Fold("How measured", describe_protocol(comparison, networks.values())),
    ]
    of_sets = [scores[test_set] for test_set in test_sets]
    same = comparison["test_set"].nunique() > 1 and not sets_differ(comparison)
    by_region = (f"Means over images of the test set {test_sets[0]}", _regions(saliency))
    sections = [
        Section("Networks compared", SAME if same else "", of_sets, plots=[_compared(comparison)], folds=folds),
        _describe_uncertainty(uncertainty, compared),
        *_leaks(comparison, policies),
        *_sources(comparison),
        Section(
            "Saliency", _elsewhere(saliency), folds=[Fold("Saliency by region, in numbers", SALIENCY, [by_region])]
        ),
        *_on_tumour(saliency),
        *(_describe_network(name, comparison, saliency[name], figures[name], shown=name == best) for name in figures),
        _data(splits, duplicates),
        describe_settings(settings, TRAINING),
    ]
    title = f"Classification of {about['data_set']}"
    answer = write_answer(comparison, about, splits)
    heat = _lead(comparison, differences, costs, networks)
    on_top = {name: png for name, png in figures.get(best, {}).items() if name == "5_saliency"}
    pictures = [_picture(best, name, png) for name, png in on_top.items()]
    return render_report(title, answer, heat, sections, simulated=about["simulated"], pictures=pictures)


def _lead(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    costs: pd.DataFrame,
    networks: Mapping[str, TrainedNetwork],
) -> HeatMap:
    """The leaderboard, by accuracy on the test set with the fewest leaks."""
    test_set = list_test_sets(comparison)[0]
    accuracy = comparison[(comparison["metric"] == "accuracy") & (comparison["test_set"] == test_set)]
    ranked = accuracy.sort_values("value", ascending=False, kind="stable")
    scores = pd.DataFrame({"network": ranked["network"], "accuracy": write_intervals(ranked)})
    caption = (
        f"Leaderboard: accuracy on the {test_set} test set, {ranked['images'].iloc[0]:,} images, 95 % interval over "
        "patients"
    )
    if len(ranked) > 1:
        best = find_best(comparison)
        scores["p against the best"] = [_find_p_value(differences, name, best) for name in ranked["network"]]
        caption += "; p is of McNemar's exact test over patients, after Holm"
    rates = costs.rename(columns={"gflops_an_image": "gflops", "images_a_second": "a_second"})
    return lead(f"{caption}.", scores, networks, rates, "image")


def _find_p_value(differences: pd.DataFrame, network: str, best: str) -> float:
    """Of the pair in either order; NaN of the best itself."""
    pairs = differences[(differences["network"] == network) & (differences["other"] == best)]
    turned = differences[(differences["network"] == best) & (differences["other"] == network)]
    found = pd.concat([pairs, turned])["p_holm"]
    return float(found.iloc[0]) if len(found) else float("nan")


def _describe_uncertainty(uncertainty: pd.DataFrame, compared: Mapping[str, bytes]) -> Section:
    """Whether the confidence of each network tells right from wrong, and how many mistakes the least sure hold."""
    text = tell_least_sure(uncertainty, int(uncertainty["images"].max()), "test images", "its mistakes")
    table = spread_order(uncertainty, ["network", "images"])
    table = table.assign(network=table["network"].map(name_network))
    order = (f"Order of the {uncertainty['test_set'].iloc[0]} test set by confidence", table)
    pictures = [Picture(compared["2_risk_coverage"], CURVES)]
    return Section(HEADING, text, [order], pictures, folds=[Fold("How measured", f"{CONFIDENCE} {ORDER}")])


def _leaks(comparison: pd.DataFrame, policies: pd.DataFrame) -> list[Section]:
    """What each leak is worth: accuracy of the same networks under each policy."""
    if not len(policies):
        return []
    first = list_test_sets(comparison)[0]
    own = comparison[comparison["test_set"] == first].assign(policy="this run")
    # Each policy by the test set that belongs to it; that of this run by its own.
    other = policies[policies["test_set"] == policies["policy"]]
    rows = pd.concat([own, other], ignore_index=True)
    rows = rows[rows["metric"] == "accuracy"]
    rows["column"] = rows["test_set"].map(LEAKS) + ", " + rows["images"].map("{:,} images".format)
    table = with_intervals(rows, "value", ["network"], across="column")
    table = table.assign(network=table["network"].map(name_network))
    text = (
        "The same networks, trained and tested under other policies. What an accuracy gains from one column to the "
        "next is what that leak is worth: it isn't known on new patients."
    )
    return [Section("What each leak is worth", text, [("Accuracy and 95 % intervals over patients", table)])]


def _sources(comparison: pd.DataFrame) -> list[Section]:
    """Whether a class is found in images of each source, where one has images of both."""
    test_set = list_test_sets(comparison)[0]
    table = score_sources(comparison, test_set)
    if not len(table):
        return []
    text = (
        "Images whose patient is known are taken as one source, the others as another. Where the classes of the "
        "training images come from different sources, the look of a source tells the class, and a tumour that looks "
        "like images of another class's source is missed. `source_balance` in the recipe uses the scarce ones more."
    )
    return [Section("By source", text, [(f"Recall on the {test_set} test set, 95 % intervals over patients", table)])]


def _picture(name: str, figure: str, content: bytes) -> Picture:
    photo = figure in PHOTOS
    return Picture(content, WORDS[figure], name_network(name), photo=photo, wide=photo)


def _compared(comparison: pd.DataFrame) -> Plot:
    sets = list_test_sets(comparison)
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
    caption = "Accuracy and macro-F1, with 95 % intervals over patients."
    return draw_strip(dots, "score", caption, colours=colour_networks(names))


def _describe_network(
    name: str,
    comparison: pd.DataFrame,
    saliency: pd.DataFrame,
    figures: Mapping[str, bytes],
    *,
    shown: bool,
) -> Section:
    """Of one network its images (if they aren't shown already), its curves and figures, its scores of each class."""
    left = dict(figures)
    if shown:
        left.pop("5_saliency", None)
    # False sorts before True: images come first, the others keep their order.
    order = sorted(left, key=lambda figure: figure not in PHOTOS)
    pictures = [_picture(name, figure, left[figure]) for figure in order]
    tables = [
        (f"Precision and recall of each class on the {test_set} test set", score_classes(comparison, name, test_set))
        for test_set in list_test_sets(comparison)
    ]
    folds = [Fold("Precision and recall of each class", tables=tables)]
    return Section(
        name_network(name),
        pictures=pictures,
        plots=[_confidence(saliency)],
        folds=folds,
    )


def _confidence(saliency: pd.DataFrame) -> Plot:
    """Each image that a saliency map was computed for, by true class."""
    # `class` can't be the name of a tuple's field.
    rows = saliency.rename(columns={"class": "there"}).itertuples()
    said = [f"{row.file}: {row.predicted} with confidence {row.confidence:.3f}" for row in rows]
    series = (saliency["class"] == saliency["predicted"]).map(HIT)
    dots = saliency.assign(
        column=saliency["class"],
        value=saliency["confidence"],
        name=saliency["file"],
        series=series,
        says=said,
    )
    # A weight is the number of test images that one stands for.
    wrong = saliency.loc[saliency["class"] != saliency["predicted"], "weight"]
    caption = (
        f"Confidence in the predicted class of {len(saliency)} test images, {len(wrong)} "
        f"of {wrong.sum():.0f} mistakes among them, by true class. Point at a dot to see which image it is; it lights "
        "up in the plots of the other networks too."
    )
    dots = dots.sort_values("class", kind="stable")
    return draw_strip(dots, "confidence", caption, list(HIT.values()), COLOURS)


def _regions(saliency: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    shares = {name_network(name): mean_shares(rows) for name, rows in saliency.items()}
    table = pd.concat(shares, names=["network"]).reset_index()
    return table.rename(columns=lambda name: name.replace("_uniform", ", uniform map"))


def _on_tumour(saliency: Mapping[str, pd.DataFrame]) -> list[Section]:
    """Whether the networks look at the tumour, where outlines are known."""
    tables = {name_network(name): mean_on_tumour(rows) for name, rows in saliency.items()}
    table = pd.concat(tables, names=["network"]).reset_index("network").reset_index(drop=True)
    if not len(table):
        return []
    all_images = table[table["class"] == "all"]
    correct = all_images[all_images["correct"]]
    words = [
        f"{row.network} has {row.tumour:.0%} of its saliency on the tumour and its maximum there in {row.pointing:.0%} "
        "of the images"
        for row in correct.itertuples()
    ]
    uniform, centre, point = (correct[name].mean() for name in ("tumour_uniform", "tumour_centre", "pointing_centre"))
    text = (
        f"In images with a hand-drawn outline that are classified correctly, {'; '.join(words)}. A uniform map has "
        f"{uniform:.0%} there; a map of the head's centre has {centre:.0%}, and its maximum in {point:.0%}."
    )
    shown = table.assign(correct=table["correct"].map(HIT)).rename(columns=TUMOUR)
    return [Section("On the tumour", text, [("Saliency against outlines; means over images", shown)])]


def _elsewhere(saliency: Mapping[str, pd.DataFrame]) -> str:
    words = []
    for name, rows in saliency.items():
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
