"""What the segmentation report says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.split import TEST, TRAIN, VALIDATION
from brain_tumor.figures.report import Picture, Section, render_report

PROTOCOL = (
    "Protocol `volume`: counts summed over all slices of a patient, then mean and median over patients. Rule of BraTS 2020 for empty masks: nothing there and "
    "nothing found counts 1, otherwise 0. Intervals: 95 % percentile bootstrap over patients. Patients of the test set were seen neither in training "
    "nor in choosing the best epoch. Scores are measured on the grid that the network sees."
)
CAPTIONS = {
    "1_curves": "Loss and validation Dice over the epochs; the dotted line is the epoch whose weights were kept.",
    "2_scores": "Dice of each test patient (a dot) for each target, and the mean (a bar).",
    "3_patients": "The slice with most tumour of the best, the median and the worst test patient: every modality, the truth, the prediction.",
}


def compose_report(
    comparison: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
    scores: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Mapping[str, bytes]],
) -> str:
    """The page of one run: the answer, the comparison, each network, the data.

    Args:
        about: the description of the prepared store.
        scores: network > rows `patient`, `target`, `metric`, `value`.
        figures: network > name > PNG.
    """
    sections = [_comparison(comparison, about), *(_network(name, scores[name], figures[name]) for name in scores), _data(index, splits, about)]
    title = f"Segmentation of {about['data_set']}{' (SIMULATED)' if about['simulated'] else ''}"
    return render_report(title, _answer(comparison, about), sections, simulated=about["simulated"])


def _answer(comparison: pd.DataFrame, about: Mapping[str, Any]) -> str:
    targets = list(about["targets"])
    target = "WT" if "WT" in targets else targets[-1]
    best = comparison.query("metric == 'dice' and target == @target").sort_values("mean").iloc[-1]
    interval = f"95 % interval {best['low']:.3f} to {best['high']:.3f}" if best["patients"] > 1 else "no interval on one patient"
    patients = f"{best['patients']}{' simulated' if about['simulated'] else ''} test patient{'s' if best['patients'] > 1 else ''}"
    return f"{best['network']} reaches a mean Dice of {best['mean']:.3f} for {target} on {patients} ({interval})."


def _comparison(comparison: pd.DataFrame, about: Mapping[str, Any]) -> Section:
    dice = comparison[comparison["metric"] == "dice"].drop(columns="metric")
    others = comparison[comparison["metric"] != "dice"].pivot_table(index=["network", "target"], columns="metric", values="mean", sort=False).reset_index()
    size = f" ({about['slice_size']} x {about['slice_size']} pixels)"
    return Section(
        "Networks compared", PROTOCOL[:-1] + size + ".", [("Dice over test patients", dice), ("Mean of the other scores over test patients", others)]
    )


def _network(name: str, scores: pd.DataFrame, figures: Mapping[str, bytes]) -> Section:
    dice = scores[scores["metric"] == "dice"].pivot(index="patient", columns="target", values="value")[list(scores["target"].unique())]
    pictures = [Picture(png, CAPTIONS[figure]) for figure, png in figures.items()]
    return Section(name, "", [("Dice of each test patient's volume", dice.reset_index())], pictures)


def _data(index: pd.DataFrame, splits: pd.DataFrame, about: Mapping[str, Any]) -> Section:
    used = index[index["left_out"] == ""].merge(splits, on="patient")
    counts = used.groupby("split").agg(patients=("patient", "nunique"), slices=("slice", "size")).reindex([TRAIN, VALIDATION, TEST]).reset_index()
    left_out = index[index["left_out"] != ""].groupby("left_out").agg(rows=("slice", "size"), patients=("patient", "nunique")).reset_index()
    text = f"Modalities {', '.join(about['modalities'])}; {about['standardisation']}. No patient is in two sets."
    tables = [("Patients and slices in each set", counts)]
    if len(left_out):
        tables.append(("What was left out, and why", left_out))
    return Section("Data", text, tables)
