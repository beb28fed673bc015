"""What the classification report says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.image_split import DEDUPLICATED, OFFICIAL
from brain_tumor.data.split import TRAIN, VALIDATION
from brain_tumor.figures.report import Picture, Section, render_report
from brain_tumor.metrics.looking import REGIONS

PROTOCOL = (
    "The official test set is the testing folder as published, copies of training images included. The deduplicated one holds one of each group of copies, "
    "none of which was learned from. Intervals: 95 % percentile bootstrap over groups of copies. The epoch and the temperature were chosen on validation "
    "images, which are drawn from the training folder by group of copies; the test images were used once. The files carry no patient ids, so slices of one "
    "patient may be on both sides."
)
CAPTIONS = {
    "1_curves": "Loss and validation scores over the epochs; the dotted line is the epoch with the highest likelihood.",
    "2_confusion": "Test images by class there (rows) and found (columns).",
    "3_reliability": "Accuracy in bins of confidence on the deduplicated test set, before and after the logits are divided by the temperature that fits "
    "validation. Perfect calibration is the dotted line; the red lines are the errors; larger dots are more images.",
    "4_kernels": "Kernels of the first layer, summed over the channels.",
    "5_looks": "Test images that are classified rightly, and what speaks for the class found: Grad-CAM of the last convolution, or attention rollout.",
    "6_regions": "Mean share of the heat in each region by class; the black lines are the region's share of the image.",
    "7_mistakes": "The mistakes that the network is most certain of.",
}
LOOKING = (
    "Share of the heat inside the head, in its rim (skull and scalp, 7 % of the image's side deep), and outside, with the share of the image that each region "
    "takes. A network whose heat lies outside or in the rim more than their area explains is right for a reason that is not the tumour."
)


def compose_report(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    comparison_figures: Mapping[str, bytes],
    about: Mapping[str, Any],
    splits: pd.DataFrame,
    duplicates: pd.DataFrame,
    looks: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Mapping[str, bytes]],
) -> str:
    """The page of one run: the answer, the comparison, where the networks look, each network.

    Args:
        about: the description of the prepared store.
        looks: network > rows `file`, `class`, `found`, `confidence`, and shares of the heat.
        figures: network > name > PNG.
    """
    pictures = [Picture(png, "Accuracy and macro-F1 with their intervals.") for png in comparison_figures.values()]
    sections = [
        Section("Networks compared", PROTOCOL, [*_scores(comparison), ("McNemar's exact test, p-values also after Holm", differences)], pictures),
        Section("Where they look", f"{LOOKING} {_elsewhere(looks)}", [("Means over test images of the deduplicated set", _regions(looks))]),
        *(Section(name, "", _classes(comparison, name), [Picture(png, CAPTIONS[key]) for key, png in figures[name].items()]) for name in figures),
        _data(splits, duplicates),
    ]
    title = f"Classification of {about['data_set']}{' (SIMULATED)' if about['simulated'] else ''}"
    return render_report(title, _answer(comparison, about, splits), sections, simulated=about["simulated"])


def _answer(comparison: pd.DataFrame, about: Mapping[str, Any], splits: pd.DataFrame) -> str:
    accuracy = comparison[comparison["metric"] == "accuracy"].set_index(["test_set", "network"])
    best = accuracy.loc[DEDUPLICATED]["value"].idxmax()
    honest, quoted = accuracy.loc[(DEDUPLICATED, best)], accuracy.loc[(OFFICIAL, best)]
    learned = splits["split"].isin([TRAIN, VALIDATION])
    leaked = splits.loc[splits["official_test"], "group"].isin(splits.loc[learned, "group"]).sum()
    images = f"{honest['images']:,}{' simulated' if about['simulated'] else ''} test images without copies"
    return (
        f"{best} classifies {honest['value']:.1%} of {images} rightly "
        f"(95 % interval {honest['low']:.1%} to {honest['high']:.1%}), "
        f"and {quoted['value']:.1%} of the {quoted['images']:,} images of the test set as published, "
        f"of which {leaked:,} have a copy that was learned from."
    )


def _scores(comparison: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    shown = ["accuracy", "macro_f1", "roc_auc", "confidence", "calibration_error", "temperature", "confidence_scaled", "calibration_error_scaled"]
    tables = []
    for test_set in (OFFICIAL, DEDUPLICATED):
        part = comparison[comparison["test_set"] == test_set]
        table = part.pivot(index=["network", "parameters"], columns="metric", values="value")[shown]
        accuracy = part[part["metric"] == "accuracy"].set_index(["network", "parameters"])
        table.insert(1, "interval", [f"{row.low:.3f} to {row.high:.3f}" for row in accuracy.loc[table.index].itertuples()])
        table.columns = [name.replace("_", " ") for name in table.columns]
        order = list(comparison["network"].unique())
        table = table.reset_index().sort_values("network", key=lambda names: names.map(order.index))
        tables.append((f"{test_set.capitalize()} test set, {part['images'].iloc[0]:,} images", table))
    return tables


def _classes(comparison: pd.DataFrame, network: str) -> list[tuple[str, pd.DataFrame]]:
    """Precision and recall of each class on both test sets."""
    part = comparison[(comparison["network"] == network) & comparison["metric"].str.match("precision_|recall_")]
    part = part.assign(**{"class": part["metric"].str.split("_", n=1).str[1], "score": part["metric"].str.split("_", n=1).str[0] + ", " + part["test_set"]})
    return [("Precision and recall of each class", part.pivot(index="class", columns="score", values="value").reset_index())]


def _regions(looks: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    columns = [*REGIONS, *(f"{region}_area" for region in REGIONS)]
    table = pd.concat([rows.groupby("class", sort=False)[columns].mean().assign(network=name) for name, rows in looks.items()]).reset_index()
    table = table[["network", "class", *columns]]
    return table.rename(columns={name: name.replace("_area", ", of the image") for name in columns})


def _elsewhere(looks: Mapping[str, pd.DataFrame]) -> str:
    words = []
    for name, rows in looks.items():
        elsewhere = rows["inside"] < 0.5
        words.append(f"{name} puts most of its heat outside or in the rim in {elsewhere.mean():.0%} of {len(rows)} images")
    return "; ".join(words) + "."


def _data(splits: pd.DataFrame, duplicates: pd.DataFrame) -> Section:
    counts = splits.groupby(["split", "class"]).size().unstack(fill_value=0).rename(index={"": "not learned from"}).reset_index()
    text = f"{len(duplicates):,} images have copies, in {duplicates['group'].nunique():,} groups; `data_report.html` shows them, `duplicates.csv` lists them."
    return Section("Data", text, [("Images of each class in each set", counts)])
