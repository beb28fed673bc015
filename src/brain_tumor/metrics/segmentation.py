"""Scores of a segmentation for each patient, and their summary over patients."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8

VOLUME = "volume"
"""Protocol: counts summed over all slices of a patient, BraTS 2020 rule for empty masks, then over patients."""

METRICS = ("dice", "iou", "precision", "recall")


def count(truth: Bool[np.ndarray, "..."], predicted: Bool[np.ndarray, "..."]) -> tuple[int, int, int]:
    """True positives, false positives, false negatives."""
    return int((truth & predicted).sum()), int((~truth & predicted).sum()), int((truth & ~predicted).sum())


def score(true_positives: int, false_positives: int, false_negatives: int) -> dict[str, float]:
    """Dice, IoU, precision and recall from counts.

    Rule of BraTS 2020 for empty masks: nothing there and nothing found is 1; nothing there and something found, or
    something there and nothing found, is 0 for every score.
    """
    tp, fp, fn = true_positives, false_positives, false_negatives
    if tp == fp == fn == 0:
        return dict.fromkeys(METRICS, 1.0)
    return {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "iou": tp / (tp + fp + fn),
        "precision": tp / (tp + fp) if tp else 0.0,
        "recall": tp / (tp + fn) if tp else 0.0,
    }


def score_volume(truth: UInt8[np.ndarray, "n h w"], predicted: UInt8[np.ndarray, "n h w"], targets: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Scores of one patient's volume, a row for each target and metric.

    Args:
        truth: labels of all the patient's slices.
        predicted: labels found, of the same shape.
        targets: name > labels that make it up.
    """
    counts = {name: count(np.isin(truth, parts), np.isin(predicted, parts)) for name, parts in targets.items()}
    return pd.DataFrame([(name, metric, value) for name, c in counts.items() for metric, value in score(*c).items()], columns=["target", "metric", "value"])


def summarise(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean, median and 95 % interval of the mean over patients, for each target and metric.

    Args:
        scores: rows `patient`, `target`, `metric`, `value`.
    """
    groups = scores.groupby(["target", "metric"], sort=False)["value"]
    rows = [(*key, v.mean(), v.median(), *interval(v.to_numpy(), seed), len(v)) for key, v in groups]
    return pd.DataFrame(rows, columns=["target", "metric", "mean", "median", "low", "high", "patients"])


def interval(values: Float[np.ndarray, " n"], seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over patients; NaN for fewer than two."""
    from scipy.stats import bootstrap  # takes a second to import

    if len(values) < 2:
        return float("nan"), float("nan")
    result = bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(seed))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def to_labels(probability: UInt8[np.ndarray, "n k h w"]) -> UInt8[np.ndarray, "n h w"]:
    """The most probable tissue (from 1) where any has at least 0.5, else 0. Probabilities are in steps of 1/255."""
    return np.where(probability.max(1) >= 128, probability.argmax(1) + 1, 0).astype(np.uint8)
