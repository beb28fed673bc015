"""What the segmentation report says."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from platform import python_version
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.split import TEST, TRAIN, VALIDATION
from brain_tumor.figures.report import Picture, Section, render_report
from brain_tumor.metrics.segmentation import MEAN, REFERENCE, SLICE, VOLUME
from brain_tumor.metrics.surfaces import TOLERANCE

PROTOCOL = (
    "Protocol “volume”: counts summed over all slices of a patient, then mean and median over patients. Rule of BraTS 2020 for empty masks: nothing there and "
    "nothing found counts 1, otherwise 0. Intervals: 95 % percentile bootstrap over patients. Patients of the test set were seen neither in training "
    "nor in choosing the best epoch. Scores are measured on the grid that the network sees"
)
REFERENCE_DICE = {"classic_unet": (0.861, 0.758), "improved_unet": (0.917, 0.847), "attention_unet": (0.918, 0.849)}
"""Dice and IoU at epoch 20 that deep-learning-project (Allone) gives for these networks with 32 filters on BraTS 2020."""
REFERENCE_TEXT = (
    "The reference splits by slice: all of its patients are in both sets, and nearly every validation slice has a neighbour of the same patient in "
    "training. Its Dice is pooled over batches of 32 mixed slices and averaged over batches. The last columns are ours in the same pooling (protocol "
    "“reference”), but on patients never seen and on this data set: the columns stand side by side, they don't compare."
)
CAPTIONS = {
    "1_curves": "Loss and validation Dice over the epochs; the dotted line is the epoch whose weights were kept.",
    "2_scores": "Dice of each test patient (a dot) for each target, and the mean (a bar).",
    "3_patients": "The slice with most tumour of the best, the median and the worst test patient: every modality, truth, probability of any tumour, "
    "prediction, and where it is wrong.",
    "1_targets": "Mean Dice of test patients for each network and target, with its 95 % interval over patients.",
    "2_costs": "Dice of the whole tumour against parameters, and against slices predicted a second on this device.",
    "3_parameters": "Parameters of each network by the number of filters of its first level.",
    "1_maps": "Every attention map over the scan of some test patients; below each map the range of its values.",
    "2_meaning": "How well each map tells tumour from the rest of the brain, and brain from background, and the Dice that is lost when it is replaced by "
    "its mean. Below: the same for the input modalities themselves.",
    "3_epochs": "One validation slice over the epochs: truth, probability of each tissue, attention maps.",
}
ATTENTION = (
    "A map that shows the tumour has an area under the curve above that of the input modalities; one that is the same everywhere has a spread of 0 and an "
    "area of 0.5. A map that the network needs costs Dice when it is replaced by its mean in each slice (no mirrored slices in this comparison). Test "
    "patients, 95 % intervals over patients."
)


def compose_report(
    tables: Sequence[pd.DataFrame],
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    figures: Mapping[str, bytes],
    scores: Mapping[str, pd.DataFrame],
    drawn: Mapping[str, Mapping[str, bytes]],
    attention: Sequence[tuple[pd.DataFrame, Mapping[str, bytes]]],
) -> str:
    """The page of one run: the answer, the comparison, each network, attention, the data, settings and versions.

    Args:
        tables: comparison, differences, costs, index, splits.
        about: the description of the prepared store.
        figures: of the comparison, name > PNG.
        scores: network > rows `set`, `patient`, `target`, `metric`, `value`.
        drawn: network > name > PNG.
        attention: of each network that attends, the summary of its maps, and name > PNG or GIF.
    """
    comparison, differences, costs, index, splits = tables
    sections = [_comparison(comparison, differences, about, figures), _protocols(comparison), _reference(comparison), _costs(costs, figures)]
    sections += [_network(name, scores[name], drawn[name]) for name in scores]
    sections += [_attention(*each) for each in attention]
    sections += [_data(index, splits, about), _settings(settings)]
    title = f"Segmentation of {about['data_set']}{' (SIMULATED)' if about['simulated'] else ''}"
    return render_report(title, _answer(comparison, about), sections, simulated=about["simulated"])


def _of_test(comparison: pd.DataFrame, protocol: str = VOLUME) -> pd.DataFrame:
    return comparison[(comparison["set"] == TEST) & (comparison["protocol"] == protocol)]


def _rank(comparison: pd.DataFrame, about: Mapping[str, Any]) -> pd.DataFrame:
    """Dice of the whole tumour (of the last target where none is declared), the best network first."""
    target = "WT" if "WT" in about["targets"] else list(about["targets"])[-1]
    dice = _of_test(comparison).query("metric == 'dice'")
    return dice[dice["target"] == target].sort_values("mean", ascending=False)


def _answer(comparison: pd.DataFrame, about: Mapping[str, Any]) -> str:
    ranked = _rank(comparison, about)
    best = ranked.iloc[0]
    interval = f"95 % interval {best['low']:.3f} to {best['high']:.3f}" if best["patients"] > 1 else "no interval on one patient"
    patients = f"{best['patients']}{' simulated' if about['simulated'] else ''} test patient{'s' if best['patients'] > 1 else ''}"
    among = f", the best of {len(ranked)} networks," if len(ranked) > 1 else ""
    return f"{best['network']}{among} reaches a mean Dice of {best['mean']:.3f} for {best['target']} on {patients} ({interval})."


def _comparison(comparison: pd.DataFrame, differences: pd.DataFrame, about: Mapping[str, Any], figures: Mapping[str, bytes]) -> Section:
    dice = comparison.query("protocol == 'volume' and metric == 'dice'")
    columns = ["network", "parameters", "patients"]
    tables = [("Mean Dice of test patients' volumes, and 95 % interval", _with_intervals(dice[dice["set"] == TEST], "mean", columns))]
    best = _rank(comparison, about)["network"].iloc[0]
    others = differences[differences["than"] == best]
    if len(others):
        tables.append((f"How much higher Dice is than {best}'s on the same patients, and 95 % interval", _with_intervals(others, "difference", ["network"])))
    crossed = dice[dice["set"] != TEST]
    if len(crossed):
        text = "Cross-validation: each patient predicted by the member that was not trained on him (but whose best epoch was chosen with him)"
        tables.append((text, _with_intervals(crossed, "mean", ["network", "patients"])))
    size = f" ({about['slice_size']} x {about['slice_size']} pixels)."
    return Section("Networks compared", PROTOCOL + size, tables, [Picture(figures["1_targets"], CAPTIONS["1_targets"])])


def _with_intervals(table: pd.DataFrame, value: str, index: list[str], across: str = "target") -> pd.DataFrame:
    """A column for each target (or whatever there is one for), in it the value and its interval."""
    numbers = table[[value, "low", "high"]].to_numpy(float)
    words = [f"{v:.3f}" if np.isnan(low) else f"{v:.3f} ({low:.3f} to {high:.3f})" for v, low, high in numbers]
    wide = table.assign(words=words).pivot(index=index, columns=across, values="words")
    return wide.loc[table.set_index(index).index.unique(), list(table[across].unique())].reset_index()


def _protocols(comparison: pd.DataFrame) -> Section:
    index, options = ["network", "target"], {"columns": "metric", "values": "mean", "sort": False}
    tables = [
        ("Protocol “volume”: mean over test patients", _of_test(comparison).pivot_table(index=index, **options)),
        ("Protocol “slice”: mean over test slices that show tumour", _of_test(comparison, SLICE).pivot_table(index=index, **options)),
    ]
    text = (
        "fpr and fnr: rates of false positives and of misses. hd95_mm: 95th percentile of the distance between surfaces in millimetres, 373.13 where one "
        f"mask is empty; surface_dice: share of the surfaces within {TOLERANCE:g} mm. Distances need a volume: they are missing where a patient's slices don't "
        "lie at equal distances."
    )
    return Section("All scores", text, [(caption, table.reset_index()) for caption, table in tables])


def _reference(comparison: pd.DataFrame) -> Section:
    table = _of_test(comparison, REFERENCE)
    ours = table[table["target"] == MEAN].pivot(index="network", columns="metric", values="mean")
    rows = [(name, *REFERENCE_DICE.get(name, (float("nan"),) * 2), ours.loc[name, "dice"], ours.loc[name, "iou"]) for name in comparison["network"].unique()]
    columns = ["network", "reference: Dice", "reference: IoU", "ours, pooled likewise: Dice", "ours, pooled likewise: IoU"]
    return Section("Beside the reference", REFERENCE_TEXT, [("Mean of the three tissues", pd.DataFrame(rows, columns=columns))])


def _costs(costs: pd.DataFrame, figures: Mapping[str, bytes]) -> Section:
    text = "Operations are counted for a forward pass of one slice; a training step takes about three times as many. Seconds are of this run on its device."
    return Section("What a network costs", text, [("", costs)], [Picture(figures[name], CAPTIONS[name]) for name in ("2_costs", "3_parameters")])


def _network(name: str, scores: pd.DataFrame, figures: Mapping[str, bytes]) -> Section:
    dice = scores[(scores["metric"] == "dice") & (scores["set"] == TEST)]
    table = dice.pivot(index="patient", columns="target", values="value")[list(scores["target"].unique())]
    pictures = [Picture(png, CAPTIONS[figure]) for figure, png in figures.items()]
    return Section(name, "", [("Dice of each test patient's volume", table.reset_index())], pictures)


def _attention(summary: pd.DataFrame, figures: Mapping[str, bytes]) -> Section:
    network = summary["network"].iloc[0]
    shown = _with_intervals(summary, "mean", ["map"], across="metric").fillna("")
    return Section(f"Attention of {network}", ATTENTION, [("What each map means", shown)], [Picture(png, CAPTIONS[name]) for name, png in figures.items()])


def _data(index: pd.DataFrame, splits: pd.DataFrame, about: Mapping[str, Any]) -> Section:
    used = index[index["left_out"] == ""].merge(splits, on="patient")
    counts = used.groupby("split").agg(patients=("patient", "nunique"), slices=("slice", "size")).reindex([TRAIN, VALIDATION, TEST]).reset_index()
    left_out = index[index["left_out"] != ""].groupby("left_out").agg(rows=("slice", "size"), patients=("patient", "nunique")).reset_index()
    text = f"Modalities {', '.join(about['modalities'])}; {about['standardisation']}. No patient is in two sets."
    tables = [("Patients and slices in each set", counts)]
    if len(left_out):
        tables.append(("What was left out, and why", left_out))
    return Section("Data", text, tables)


def _settings(settings: Mapping[str, Any]) -> Section:
    rows = [(f"{block}.{key}", str(value)) for block, values in settings.items() for key, value in values.items()]
    packages = ("brain-tumor-mri", "torch", "lightning", "monai", "kedro", "numpy")
    versions = [("python", python_version()), *((name, version(name)) for name in packages)]
    columns = ["setting", "value"]
    return Section("Settings and versions", "", [("Settings", pd.DataFrame(rows, columns=columns)), ("Versions", pd.DataFrame(versions, columns=columns))])
