"""Scores of a segmentation from pixel counts, in three protocols.

| protocol | counts are summed over | scores are averaged over | interval over |
|---|---|---|---|
| `volume` | all slices of a patient | patients | patients |
| `slice` | one slice | slices that show tumour | patients |
| `reference` | 32 slices of mixed patients | such batches | none: batches share patients |
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from brain_tumor.metrics.intervals import interval, interval_of_ratio

VOLUME, SLICE, REFERENCE = "volume", "slice", "reference"
COUNTS = ["tp", "fp", "fn", "tn"]
METRICS = ("dice", "iou", "accuracy", "fpr", "fnr", "precision", "recall")
SUMMARY = ["protocol", "target", "metric", "mean", "median", "low", "high", "patients"]
MEAN = "mean of tissues"
"""Target of protocol `reference`: the mean over tissues, which the reference system reports as its Dice."""


def choose_headline(targets: Iterable[str]) -> str:
    """The target by which networks and patients are ranked: WT (whole tumour) where it is declared, else the last."""
    targets = list(targets)
    return "WT" if "WT" in targets else targets[-1]


def count_slices(
    truth: UInt8[np.ndarray, "n h w"],
    predicted: UInt8[np.ndarray, "n h w"],
    targets: Mapping[str, Sequence[int]],
) -> pd.DataFrame:
    """True and false positives and negatives of each slice and target, in pixels.

    Args:
        truth: labels of the reference mask.
        predicted: predicted labels, of the same shape.
        targets: name > its labels.

    Returns: rows `position` (of the slice), `target`, `tp`, `fp`, `fn`, `tn`.
    """
    tables = []
    for name, labels in targets.items():
        # A row of pixels for each slice.
        slices = len(truth)
        true = np.isin(truth, labels).reshape(slices, -1)
        pred = np.isin(predicted, labels).reshape(slices, -1)
        counts = {
            "tp": (true & pred).sum(1),
            "fp": (~true & pred).sum(1),
            "fn": (true & ~pred).sum(1),
            "tn": (~true & ~pred).sum(1),
        }
        place = {"position": range(len(truth)), "target": name}
        tables.append(pd.DataFrame(place | counts))
    return pd.concat(tables, ignore_index=True)


def score(counts: pd.DataFrame) -> pd.DataFrame:
    """The METRICS of each row of COUNTS, as columns.

    Rule of BraTS 2020 for empty masks: Dice and IoU are 1 if both masks are empty, 0 if one is. Undefined rates are
    NaN: recall and fnr without true tumour, precision without predicted tumour.
    """
    tp, fp, fn, tn = counts[COUNTS].to_numpy(float).T
    empty = tp + fp + fn == 0

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        # Places that `where` leaves out keep what `out` held before: NaN.
        undefined = np.full_like(part, np.nan)
        return np.divide(part, whole, out=undefined, where=whole > 0)

    dice = ratio(2 * tp, 2 * tp + fp + fn)
    iou = ratio(tp, tp + fp + fn)
    recall = ratio(tp, tp + fn)
    columns = {
        "dice": np.where(empty, 1.0, dice),
        "iou": np.where(empty, 1.0, iou),
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        "fpr": ratio(fp, fp + tn),
        "fnr": 1 - recall,
        "precision": ratio(tp, tp + fp),
        "recall": recall,
    }
    return pd.DataFrame(columns, index=counts.index)


def score_patients(counts: pd.DataFrame) -> pd.DataFrame:
    """Scores of each patient's volume as rows `patient`, `target`, `metric`, `value`.

    Args:
        counts: `patient`, `target` and COUNTS of each slice.
    """
    volumes = counts.groupby(["patient", "target"], sort=False)[COUNTS].sum()
    scores = score(volumes).rename_axis("metric", axis=1)
    # The new stack keeps rows of NaN: an undefined score has a row too.
    return scores.stack(future_stack=True).rename("value").reset_index()


def summarise_patients(scores: pd.DataFrame) -> pd.DataFrame:
    """Protocol `volume`: mean, median and 95 % interval over patients for each target and metric.

    Args:
        scores: rows `patient`, `target`, `metric`, `value`. Undefined ones (NaN) are excluded.

    Returns: rows SUMMARY; `patients` is the number of patients with a defined score.
    """
    rows = []
    for (target, metric), group in scores.groupby(["target", "metric"], sort=False)["value"]:
        values = group.dropna().to_numpy()
        # numpy warns of the mean of nothing.
        mean, median = (values.mean(), np.median(values)) if len(values) else (np.nan, np.nan)
        low, high = interval(values)
        rows.append(
            {
                "protocol": VOLUME,
                "target": target,
                "metric": metric,
                "mean": mean,
                "median": median,
                "low": low,
                "high": high,
                "patients": len(values),
            }
        )
    return pd.DataFrame(rows, columns=SUMMARY)


def summarise_slices(counts: pd.DataFrame, whole: Sequence[str]) -> pd.DataFrame:
    """Protocol `slice`: mean and median over slices that show tumour, with a 95 % interval over patients.

    Args:
        counts: `patient`, `slice`, `target` and COUNTS of each slice.
        whole: targets that together make up the whole tumour.
    """
    # The reference mask has true positives and false negatives.
    in_mask = counts["tp"] + counts["fn"]
    tumour = counts["target"].isin(whole) & (in_mask > 0)
    with_tumour = counts.loc[tumour, ["patient", "slice"]].drop_duplicates()
    shown = counts.merge(with_tumour)
    if shown.empty:
        return pd.DataFrame(columns=SUMMARY)
    scores = pd.concat([shown[["patient", "target"]], score(shown)], axis=1)
    rows = []
    for target, group in scores.groupby("target", sort=False):
        for metric in METRICS:
            defined = group.dropna(subset=metric)
            by_patient = defined.groupby("patient")[metric].agg(["sum", "count"])
            sums, slices = by_patient.to_numpy(float).T
            low, high = interval_of_ratio(sums, slices)
            rows.append(
                {
                    "protocol": SLICE,
                    "target": target,
                    "metric": metric,
                    "mean": group[metric].mean(),
                    "median": group[metric].median(),
                    "low": low,
                    "high": high,
                    "patients": len(by_patient),
                }
            )
    return pd.DataFrame(rows, columns=SUMMARY)


def summarise_batches(
    counts: pd.DataFrame,
    tissues: Sequence[str],
    size: int = 32,
    seed: int = 0,
) -> pd.DataFrame:
    """Protocol `reference`: counts pooled over batches of slices of mixed patients, scores averaged over batches.

    For comparison with the reference system, which is measured so. It favours large tumours and hides empty masks.
    """
    slices = counts[["patient", "slice"]].drop_duplicates(ignore_index=True)
    # Shuffled, because the reference system scores batches of mixed patients.
    order = np.random.default_rng(seed).permutation(len(slices))
    batch = slices.assign(batch=order // size)
    patients = counts["patient"].nunique()
    batched = counts[counts["target"].isin(tissues)].merge(batch)
    pooled = batched.groupby(["target", "batch"], sort=False)[COUNTS].sum()
    scores = score(pooled).reset_index()
    means = scores.groupby("batch")[list(METRICS)].mean()
    means = means.reset_index().assign(target=MEAN)
    rows = []
    for target, group in pd.concat([scores, means]).groupby("target", sort=False):
        for metric in METRICS:
            values = group[metric]
            rows.append(
                {
                    "protocol": REFERENCE,
                    "target": target,
                    "metric": metric,
                    "mean": values.mean(),
                    "median": values.median(),
                    # No interval: batches share patients, so they aren't independent.
                    "low": np.nan,
                    "high": np.nan,
                    "patients": patients,
                }
            )
    return pd.DataFrame(rows, columns=SUMMARY)


def compare_patients(one: pd.DataFrame, other: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Paired difference of a metric, `one` minus `other`, with the 95 % interval of its mean.

    Args:
        one: rows `patient`, `target`, `metric`, `value`.
        other: the same.

    Returns: a row for each target; `win_rate` is the fraction of patients with a higher score in `one`.
    """

    def values_of(scores: pd.DataFrame) -> pd.Series:
        own = scores[scores["metric"] == metric]
        return own.set_index(["patient", "target"])["value"]

    # Paired by patient: networks differ less on one patient than patients do from each other.
    difference = (values_of(one) - values_of(other)).dropna()
    rows = []
    for target, values in difference.groupby("target", sort=False):
        low, high = interval(values.to_numpy())
        rows.append(
            {
                "target": target,
                "metric": metric,
                "difference": values.mean(),
                "low": low,
                "high": high,
                "win_rate": (values > 0).mean(),
                "patients": len(values),
            }
        )
    return pd.DataFrame(rows, columns=["target", "metric", "difference", "low", "high", "win_rate", "patients"])


def compare_pairs(patient_scores: Mapping[str, pd.DataFrame], metric: str = "dice") -> pd.DataFrame:
    """Paired differences of every network to every other, as `compare_patients` gives them.

    Args:
        patient_scores: network > rows `patient`, `target`, `metric`, `value`.

    Returns: rows `network`, `baseline`, and those of `compare_patients`.
    """
    columns = ["network", "baseline", "target", "metric", "difference", "low", "high", "win_rate", "patients"]
    differences = []
    # Both directions, so that a table against any network is a selection of rows.
    for name, baseline in permutations(patient_scores, 2):
        table = compare_patients(patient_scores[name], patient_scores[baseline], metric)
        differences.append(table.assign(network=name, baseline=baseline))
    if not differences:
        return pd.DataFrame(columns=columns)
    return pd.concat(differences, ignore_index=True)[columns]


def to_labels(probability: UInt8[np.ndarray, "n k h w"]) -> UInt8[np.ndarray, "n h w"]:
    """The most probable tissue (from 1) where the tissues together have at least 0.5, else 0.

    Args:
        probability: in steps of 1/255.
    """
    # 128 is the first step from 0.5 up.
    shown = add_tissues(probability) >= 128
    tissue = probability.argmax(1) + 1
    return np.where(shown, tissue, 0).astype(np.uint8)


def add_tissues(probability: UInt8[np.ndarray, "n k h w"]) -> UInt8[np.ndarray, "n h w"]:
    """Probability of any tumour, at most 1, in steps of 1/255. Tissues exclude each other, so theirs add up."""
    total = probability.sum(1, dtype=np.uint16)
    return np.minimum(total, 255).astype(np.uint8)
