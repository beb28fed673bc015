"""Scores of a segmentation from exact counts of pixels, in three protocols.

| protocol | counts are summed over | scores are averaged over | interval over |
|---|---|---|---|
| `volume` | all slices of a patient | patients | patients |
| `slice` | one slice | slices that show tumour | patients |
| `reference` | 32 slices of mixed patients | such batches | none: batches share patients |
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from brain_tumor.metrics.intervals import interval, interval_of_ratio

VOLUME, SLICE, REFERENCE = "volume", "slice", "reference"
COUNTS = ["tp", "fp", "fn", "tn"]
METRICS = ("dice", "iou", "accuracy", "fpr", "fnr", "precision", "recall")
SUMMARY = ["protocol", "target", "metric", "mean", "median", "low", "high", "patients"]
MEAN = "mean of tissues"
"""Target of protocol `reference`: what the reference system gives as its Dice."""


def choose_headline(targets: Iterable[str]) -> str:
    """The target by which networks and patients are ranked.

    The whole tumour where it is declared, else the last one.
    """
    targets = list(targets)
    return "WT" if "WT" in targets else targets[-1]


def count_slices(
    truth: UInt8[np.ndarray, "n h w"], predicted: UInt8[np.ndarray, "n h w"], targets: Mapping[str, Sequence[int]]
) -> pd.DataFrame:
    """Pixels of each slice and target: true positive, false positive, false negative, true negative.

    And `position` of the slice.

    Args:
        truth: labels.
        predicted: labels found, of the same shape.
        targets: name > labels that make it up.
    """
    tables = []
    for name, labels in targets.items():
        there, found = (np.isin(x, labels).reshape(len(truth), -1) for x in (truth, predicted))
        counts = {
            "tp": (there & found).sum(1),
            "fp": (~there & found).sum(1),
            "fn": (there & ~found).sum(1),
            "tn": (~there & ~found).sum(1),
        }
        tables.append(pd.DataFrame({"position": range(len(truth)), "target": name} | counts))
    return pd.concat(tables, ignore_index=True)


def score(counts: pd.DataFrame) -> pd.DataFrame:
    """A column for each of METRICS, from columns of COUNTS.

    Rule of BraTS 2020 for empty masks: nothing there and nothing found is right (Dice and IoU 1), one of them empty is
    wrong (0). A rate of nothing is not defined (NaN): without tumour there is no recall and no rate of misses, where
    nothing is found there is no precision.
    """
    tp, fp, fn, tn = (counts[name].to_numpy(float) for name in COUNTS)
    empty = tp + fp + fn == 0

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)

    recall = ratio(tp, tp + fn)
    columns = {
        "dice": np.where(empty, 1.0, ratio(2 * tp, 2 * tp + fp + fn)),
        "iou": np.where(empty, 1.0, ratio(tp, tp + fp + fn)),
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        "fpr": ratio(fp, fp + tn),
        "fnr": 1 - recall,
        "precision": ratio(tp, tp + fp),
        "recall": recall,
    }
    return pd.DataFrame(columns, index=counts.index)


def score_patients(counts: pd.DataFrame) -> pd.DataFrame:
    """Scores of each patient's volume; rows `patient`, `target`, `metric`, `value`.

    Args:
        counts: `patient`, `target` and COUNTS of each slice.
    """
    scores = score(counts.groupby(["patient", "target"], sort=False)[COUNTS].sum()).rename_axis("metric", axis=1)
    return scores.stack(future_stack=True).rename("value").reset_index()  # a score that isn't defined has a row too


def summarise_patients(scores: pd.DataFrame) -> pd.DataFrame:
    """Protocol `volume`: mean, median and 95 % interval over patients for each target and metric.

    A score that isn't defined (NaN) is left out: no volume, no distance; no tumour, no recall. `patients` are those who
    have the score.

    Args:
        scores: rows `patient`, `target`, `metric`, `value`.
    """
    rows = []
    for (target, metric), group in scores.groupby(["target", "metric"], sort=False)["value"]:
        values = group.dropna().to_numpy()
        middle = (values.mean(), np.median(values)) if len(values) else (np.nan, np.nan)
        rows.append((VOLUME, target, metric, *middle, *interval(values), len(values)))
    return pd.DataFrame(rows, columns=SUMMARY)


def summarise_slices(counts: pd.DataFrame, whole: Sequence[str]) -> pd.DataFrame:
    """Protocol `slice`: mean and median over slices that show tumour, with a 95 % interval over patients.

    Args:
        counts: `patient`, `slice`, `target` and COUNTS of each slice.
        whole: targets that together are all tumour.
    """
    there = counts["target"].isin(whole) & (counts["tp"] + counts["fn"] > 0)
    shown = counts.merge(counts.loc[there, ["patient", "slice"]].drop_duplicates())
    if shown.empty:
        return pd.DataFrame(columns=SUMMARY)
    scores = pd.concat([shown[["patient", "target"]], score(shown)], axis=1)
    rows = []
    for target, group in scores.groupby("target", sort=False):
        for metric in METRICS:
            defined = group.dropna(subset=metric)
            patients = defined.groupby("patient")[metric].agg(["sum", "count"]).to_numpy(float)
            rows.append(
                (
                    SLICE,
                    target,
                    metric,
                    group[metric].mean(),
                    group[metric].median(),
                    *interval_of_ratio(*patients.T),
                    len(patients),
                )
            )
    return pd.DataFrame(rows, columns=SUMMARY)


def summarise_batches(counts: pd.DataFrame, tissues: Sequence[str], size: int = 32, seed: int = 0) -> pd.DataFrame:
    """Protocol `reference`: counts pooled over batches of slices of mixed patients, scores averaged over batches.

    It favours large tumours and hides empty masks; it is here to stand beside the reference's figures, which were
    measured so.
    """
    slices = counts[["patient", "slice"]].drop_duplicates(ignore_index=True)
    batch = slices.assign(batch=np.random.default_rng(seed).permutation(len(slices)) // size)
    pooled = counts[counts["target"].isin(tissues)].merge(batch).groupby(["target", "batch"], sort=False)[COUNTS].sum()
    scores = score(pooled).reset_index()
    table = pd.concat([scores, scores.groupby("batch")[list(METRICS)].mean().reset_index().assign(target=MEAN)])
    rows = []
    for target, group in table.groupby("target", sort=False):
        rows += [
            (REFERENCE, target, m, group[m].mean(), group[m].median(), np.nan, np.nan, counts["patient"].nunique())
            for m in METRICS
        ]
    return pd.DataFrame(rows, columns=SUMMARY)


def compare_patients(one: pd.DataFrame, other: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """How much higher `one` scores than `other` on the same patients.

    A row for each target, with the 95 % interval of the mean difference.

    Args:
        one: rows `patient`, `target`, `metric`, `value`; so `other`.
    """
    first, second = (
        scores[scores["metric"] == metric].set_index(["patient", "target"])["value"] for scores in (one, other)
    )
    difference = (first - second).dropna()
    rows = []
    for target, values in difference.groupby("target", sort=False):
        rows.append((target, metric, values.mean(), *interval(values.to_numpy()), (values > 0).mean(), len(values)))
    return pd.DataFrame(rows, columns=["target", "metric", "difference", "low", "high", "better", "patients"])


def to_labels(probability: UInt8[np.ndarray, "n k h w"]) -> UInt8[np.ndarray, "n h w"]:
    """The most probable tissue (from 1) where any has at least 0.5, else 0. Probabilities are in steps of 1/255."""
    return np.where(probability.max(1) >= 128, probability.argmax(1) + 1, 0).astype(np.uint8)
