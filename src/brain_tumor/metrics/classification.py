"""Scores of a classification with intervals, calibration, and tests of differences between networks."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float, Int

from brain_tumor.metrics.intervals import percentiles

BINS = 15
"""Bins of equal width in which confidence is compared with accuracy."""

RESAMPLES = 1000


def to_probability(logits: Float[np.ndarray, "n k"], temperature: float = 1.0) -> Float[np.ndarray, "n k"]:
    """Softmax of the logits divided by the temperature."""
    return np.exp(scipy.special.log_softmax(logits.astype(np.float64) / temperature, axis=1))


def fit_temperature(logits: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"]) -> float:
    """The temperature that makes these labels most likely, and one more image on which the network is wrong.

    Where it is right on all images, the likelihood by itself would have it ever surer.

    Source: Guo et al. 2017, arXiv:1706.04599; targets as in Platt 1999, (n + 1) / (n + 2) for the label and the rest
    for the other classes.
    """
    n, kinds = logits.shape
    target = np.full((n, kinds), 1 / (n + 2) / (kinds - 1))
    target[np.arange(n), label] = (n + 1) / (n + 2)

    def loss(logarithm: float) -> float:
        return (
            -(target * scipy.special.log_softmax(logits.astype(np.float64) / np.exp(logarithm), axis=1)).sum(1).mean()
        )

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def score(
    probability: Float[np.ndarray, "n k"],
    label: Int[np.ndarray, " n"],
    group: np.ndarray,
    classes: Sequence[str],
    seed: int = 0,
) -> pd.DataFrame:
    """Rows `metric`, `value`, `low`, `high`: every score with its 95 % bootstrap interval.

    Images are drawn by their group, because copies are no independent evidence. The calibration error has no interval:
    resamples have larger errors than the images they are drawn from.

    Args:
        group: of copies, for each image.
    """
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a class that isn't there, in a resample or at all, has no score
        values = _measure(np.ones((1, len(label))), probability, label, classes)
        resampled = _measure(_draw(group, seed), probability, label, classes) | {
            "calibration_error": np.full(RESAMPLES, np.nan)
        }
        rows = [
            (metric, value[0], *percentiles(resampled[metric], len(set(group)))) for metric, value in values.items()
        ]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


def _draw(group: np.ndarray, seed: int) -> Float[np.ndarray, "r n"]:
    """How often each image is in each resample."""
    codes, names = pd.factorize(group)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    return drawn[:, codes].astype(np.float64)


def _measure(
    weight: Float[np.ndarray, "r n"],
    probability: Float[np.ndarray, "n k"],
    label: Int[np.ndarray, " n"],
    classes: Sequence[str],
) -> dict[str, Float[np.ndarray, " r"]]:
    """Every score, for each row of weights of the images."""
    kinds, found, confidence = len(classes), probability.argmax(1), probability.max(1)
    pairs = (weight @ np.eye(kinds**2)[label * kinds + found]).reshape(-1, kinds, kinds)
    hit, there, taken = pairs.diagonal(axis1=1, axis2=2), pairs.sum(2), pairs.sum(1)
    precision, recall = hit / taken, hit / there
    f1 = np.where(
        there > 0, 2 * hit / (there + taken), np.nan
    )  # a class that has no image has none, however often it is found
    scores = {
        "accuracy": hit.sum(1) / weight.sum(1),
        "macro_f1": np.nanmean(f1, axis=1),
        "roc_auc": _area(weight, probability, label),
    }
    scores |= {f"precision_{name}": precision[:, k] for k, name in enumerate(classes)}
    scores |= {f"recall_{name}": recall[:, k] for k, name in enumerate(classes)}
    return scores | {
        "confidence": weight @ confidence / weight.sum(1),
        "calibration_error": _calibration_error(weight, confidence, found == label),
    }


def _area(
    weight: Float[np.ndarray, "r n"], probability: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " r"]:
    """Area under the ROC curve, mean over the classes against the rest.

    How often an image of the class has the higher probability, ties counting half.
    """
    areas = []
    for kind, column in enumerate(probability.T):
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order], prepend=-1))
        member = label[order] == kind
        mine, others = (np.add.reduceat(weight[:, order] * chosen, starts, axis=1) for chosen in (member, ~member))
        below = np.cumsum(others, axis=1) - others / 2
        areas.append((mine * below).sum(1) / (mine.sum(1) * others.sum(1)))
    return np.nanmean(areas, axis=0)


def _bins(confidence: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def _calibration_error(
    weight: Float[np.ndarray, "r n"], confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " r"]:
    """Expected calibration error: distance of confidence from accuracy, mean over the images' bins."""
    gap = weight * (confidence - correct)
    return np.abs(gap @ np.eye(BINS)[_bins(confidence)]).sum(1) / weight.sum(1)


def calibrate(probability: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"]) -> pd.DataFrame:
    """Rows `confidence`, `accuracy`, `images` of each bin that holds any: what a reliability diagram shows."""
    confidence = probability.max(1)
    table = pd.DataFrame(
        {"bin": _bins(confidence), "confidence": confidence, "accuracy": probability.argmax(1) == label}
    )
    return (
        table.groupby("bin")
        .agg(confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), images=("accuracy", "size"))
        .reset_index(drop=True)
    )


def count_pairs(probability: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"]) -> Int[np.ndarray, "k k"]:
    """Images by class there (rows) and found (columns)."""
    kinds = probability.shape[1]
    return np.bincount(label * kinds + probability.argmax(1), minlength=kinds**2).reshape(kinds, kinds)


def compare(correct: Mapping[str, Bool[np.ndarray, " n"]]) -> pd.DataFrame:
    """McNemar's exact test of each pair of networks.

    Rows `network`, `other`, `only_network`, `only_other`, `p_value`, `p_holm`.

    Args:
        correct: network > whether it is right, on the same images. Copies must not be among them: they are no
            independent evidence.
    """
    names, rows = list(correct), []
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            first, second = int((correct[one] & ~correct[other]).sum()), int((correct[other] & ~correct[one]).sum())
            rows.append(
                (
                    one,
                    other,
                    first,
                    second,
                    scipy.stats.binomtest(first, first + second).pvalue if first + second else 1.0,
                )
            )
    table = pd.DataFrame(rows, columns=["network", "other", "only_network", "only_other", "p_value"])
    order = table["p_value"].argsort()
    holm = (table["p_value"][order] * np.arange(len(table), 0, -1)).cummax().clip(upper=1)
    return table.assign(p_holm=holm.reindex(table.index))
