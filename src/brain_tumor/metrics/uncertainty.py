"""How sure a prediction is, and whether that orders the errors (selective prediction).

Source: Geifman & El-Yaniv 2017, arXiv:1705.08500, for curves of risk and coverage.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8

from brain_tumor.metrics.classification import area_under_curve
from brain_tumor.metrics.intervals import Weights, draw_units, percentiles

CONFIDENCE = "confidence"
"""Name of the soft Dice confidence among the metrics of a patient."""

RESAMPLES = 1000

PART = 5
"""The least sure are one of as many parts: a fifth."""

NONE = (float("nan"), float("nan"))
"""No interval."""


def soft_dice_confidence(
    probability: UInt8[np.ndarray, "k ..."],
    predicted: UInt8[np.ndarray, "..."],
    targets: Mapping[str, Sequence[int]],
) -> dict[str, float]:
    """Target > the Dice that the probabilities p lead to expect of its mask m: 2 sum(p m) / (sum p + sum m).

    Of an empty mask, whose Dice is 1 or 0, it is 1 - max p: the probability that the reference mask is empty too, if
    one voxel decides. The order of patients is what it is for: networks are too sure, so its mean is above the Dice.

    Args:
        probability: of each tissue, in steps of 1/255: a patient's volume.
        predicted: labels, k for the k-th tissue.
        targets: name > its labels.

    Source: Borges et al. 2024, arXiv:2402.10665.
    """
    confidence = {}
    for name, labels in targets.items():
        # Tissues exclude each other, so theirs add up.
        total = np.zeros(predicted.shape, np.uint16)
        for label in labels:
            total += probability[label - 1]
        np.minimum(total, 255, out=total)
        mask = np.isin(predicted, labels)
        size = int(np.count_nonzero(mask))
        inside, everywhere = total[mask].sum(dtype=np.int64) / 255, total.sum(dtype=np.int64) / 255
        expected = 2 * inside / (everywhere + size) if size else 1 - total.max(initial=0) / 255
        confidence[name] = float(expected)
    return confidence


def trace_risk(confidence: Float[np.ndarray, " n"], risk: Float[np.ndarray, " n"]) -> pd.DataFrame:
    """Rows `coverage`, `risk`: mean risk of the surest fraction, a row for each distinct confidence, the highest first.

    Args:
        risk: of each patient or image: 1 - Dice, or 1 where the class is wrong.
    """
    weight = np.ones((1, len(risk)))
    covered, failed = _accumulate(confidence, risk, weight)
    return pd.DataFrame({"coverage": covered[0] / len(risk), "risk": failed[0] / covered[0]})


def order_patients(confidence: Float[np.ndarray, " n"], dice: Float[np.ndarray, " n"], seed: int = 0) -> pd.DataFrame:
    """Whether confidence orders patients by Dice: rows `metric`, `value`, `low`, `high` (95 %, over patients).

    `spearman` is the rank correlation; `aurc` the area under the curve of risk (1 - Dice) and coverage, `aurc_random`
    that without an order, `aurc_best` that of the best order; `errors_in_fifth` the part of the Dice lost that the
    least sure fifth of the patients holds. What isn't defined, such as a correlation with a constant, is NaN.
    """
    weight = draw_units(np.arange(len(dice)), RESAMPLES, seed)
    ranked = {"spearman": _correlate_ranks(np.ones((1, len(dice))), confidence, dice)[0]}
    resampled = {"spearman": _correlate_ranks(weight, confidence, dice)}
    return _score_order(confidence, 1 - dice, weight, ranked, resampled, len(dice))


def order_scores(patient_scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of `order_patients` for each set and target, and the number of patients.

    Args:
        patient_scores: rows `set`, `patient`, `target`, `metric`, `value`; with CONFIDENCE.

    Returns: rows `set`, `target`, `metric`, `value`, `low`, `high`, `patients`.
    """
    parts = []
    for (set_name, target), pair in pair_scores(patient_scores).groupby(["set", "target"], sort=False):
        table = order_patients(pair[CONFIDENCE].to_numpy(), pair["dice"].to_numpy())
        parts.append(table.assign(set=set_name, target=target, patients=len(pair)))
    columns = ["set", "target", "metric", "value", "low", "high", "patients"]
    return pd.concat(parts, ignore_index=True)[columns]


def pair_scores(patient_scores: pd.DataFrame) -> pd.DataFrame:
    """Rows `set`, `patient`, `target`, CONFIDENCE and `dice`, the targets in the order in which they come."""
    chosen = patient_scores[patient_scores["metric"].isin([CONFIDENCE, "dice"])]
    pairs = chosen.pivot_table(index=["set", "target", "patient"], columns="metric", values="value", sort=False)
    return pairs.reset_index()


def order_images(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], person: np.ndarray, seed: int = 0
) -> pd.DataFrame:
    """Whether confidence tells right from wrong: the rows of `order_patients`, with `auroc` in place of `spearman`.

    `auroc` is how often an image that is right has the higher confidence of two, one right and one wrong.

    Args:
        person: of each image. Persons are resampled, because images of one aren't independent.
    """
    weight = draw_units(person, RESAMPLES, seed)
    ranked = {"auroc": area_under_curve(np.ones((1, len(correct))), confidence, correct)[0]}
    resampled = {"auroc": area_under_curve(weight, confidence, correct)}
    return _score_order(confidence, (~correct).astype(float), weight, ranked, resampled, len(set(person)))


def count_least_sure(count: int) -> int:
    """How many of some patients or images are the least sure fifth."""
    return -(-count // PART)


def _score_order(
    confidence: np.ndarray,
    risk: np.ndarray,
    weight: Weights,
    ranked: Mapping[str, float],
    resampled: Mapping[str, np.ndarray],
    units: int,
) -> pd.DataFrame:
    once = np.ones((1, len(risk)))
    values = dict(ranked) | {"aurc": _area_under_risk(confidence, risk, once)[0]}
    drawn = dict(resampled) | {"aurc": _area_under_risk(confidence, risk, weight)}
    values["aurc_random"] = float(risk.mean())
    # The best order has no ties: one of two equal risks comes first.
    best = -np.argsort(np.argsort(risk, kind="stable"))
    values["aurc_best"] = _area_under_risk(best, risk, once)[0]
    values["errors_in_fifth"] = _share_of_least_sure(confidence, risk)
    # An interval of what all orders have in common would say nothing of this one.
    bounds = {metric: percentiles(drawn[metric], units) if metric in drawn and units > 1 else NONE for metric in values}
    rows = [(metric, value, *bounds[metric]) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


def _share_of_least_sure(confidence: np.ndarray, risk: np.ndarray) -> float:
    if not risk.sum() > 0:
        return float("nan")
    least = np.argsort(confidence, kind="stable")[: count_least_sure(len(risk))]
    return float(risk[least].sum() / risk.sum())


def _accumulate(confidence: np.ndarray, risk: np.ndarray, weight: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Weight and risk of all that are at least as sure as each distinct confidence, the highest first."""
    order = np.argsort(-confidence, kind="stable")
    # Those that are equally sure come in together: no threshold parts them.
    starts = np.flatnonzero(np.diff(confidence[order], prepend=np.inf))
    ordered = weight[:, order]
    covered = np.add.reduceat(ordered, starts, axis=1).cumsum(1)
    failed = np.add.reduceat(ordered * risk[order], starts, axis=1).cumsum(1)
    return covered, failed


def _area_under_risk(confidence: np.ndarray, risk: np.ndarray, weight: Weights) -> Float[np.ndarray, " r"]:
    """Mean risk at the coverage of each patient or image."""
    covered, failed = _accumulate(confidence, risk, weight)
    # The surest may not be drawn: nothing is covered yet.
    selective = np.divide(failed, covered, out=np.zeros_like(failed), where=covered > 0)
    steps = np.diff(covered, prepend=0)
    return (selective * steps).sum(1) / covered[:, -1]


def _correlate_ranks(weight: Weights, first: np.ndarray, second: np.ndarray) -> Float[np.ndarray, " r"]:
    """Spearman's correlation, each patient counted as often as drawn."""
    count = weight.sum(1, keepdims=True)
    one, other = (_midrank(weight, values) for values in (first, second))
    one, other = (ranks - (weight * ranks).sum(1, keepdims=True) / count for ranks in (one, other))
    shared, own, others = ((weight * product).sum(1) for product in (one * other, one**2, other**2))
    with np.errstate(invalid="ignore"):
        return np.where((own > 0) & (others > 0), shared / np.sqrt(own * others), np.nan)


def _midrank(weight: Weights, values: np.ndarray) -> Float[np.ndarray, "r n"]:
    """Rank of each value, the mean rank of those that are equal."""
    _, place = np.unique(values, return_inverse=True)
    tied = weight @ np.eye(place.max() + 1)[place]
    below = tied.cumsum(1) - tied
    return (below + (tied + 1) / 2)[:, place]
