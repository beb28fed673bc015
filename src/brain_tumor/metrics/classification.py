"""Scores of a classification with intervals, calibration, and tests of differences between networks."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float, Int

from brain_tumor.metrics.intervals import Weights, draw_units, percentiles

BINS = 15
"""Bins of equal width in which confidence is compared with accuracy."""

RESAMPLES = 1000


def to_probability(
    logits: Float[np.ndarray, "n k"],
    temperature: float = 1.0,
) -> Float[np.ndarray, "n k"]:
    """Softmax of the logits divided by the temperature."""
    # By its logarithm in fp64: a softmax in fp32 gives an overconfident class exactly 1.
    scaled = logits.astype(np.float64) / temperature
    return np.exp(scipy.special.log_softmax(scaled, axis=1))


def fit_temperature(logits: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"]) -> float:
    """The temperature with the highest likelihood of smoothed labels.

    Source: Guo et al. 2017, arXiv:1706.04599; labels smoothed as in Platt 1999: (n + 1) / (n + 2) for the true
    class, the rest for the other classes.
    """
    n, num_classes = logits.shape
    # Without smoothing, a network that is right on all images would get a temperature of 0.
    true_share = (n + 1) / (n + 2)
    other_share = 1 / (n + 2) / (num_classes - 1)
    target = np.full((n, num_classes), other_share)
    target[np.arange(n), label] = true_share

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        log_likelihood = target * scipy.special.log_softmax(scaled, axis=1)
        return -log_likelihood.sum(1).mean()

    # On a logarithmic scale, where the loss is close to symmetric.
    bounds = (np.log(0.05), np.log(20))
    found = scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def choose_temperature(logits: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"]) -> float:
    """The temperature that is used: the fitted one where it lowers confidence, else 1.

    Validation images are from the sources of the training images. On images from others confidence is too high
    already, so that it isn't raised (docs/experiments/classification_real_images.md).
    """
    return max(1.0, fit_temperature(logits, label))


def score(
    probability: Float[np.ndarray, "n k"],
    label: Int[np.ndarray, " n"],
    person: np.ndarray,
    classes: Sequence[str],
    healthy: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Every score with its 95 % bootstrap interval, as rows `metric`, `value`, `low`, `high`.

    Args:
        person: of each image. Persons are resampled, because images of one aren't independent.
        healthy: the class without tumour. With it, `accuracy_tumours` is that of the images with tumour among the
            classes of tumours, and `accuracy_tumour_or_none` that of whether there is one.
    """
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # A class without images, in a resample or at all, has NaN for a score.
        warnings.simplefilter("ignore", RuntimeWarning)
        # Weights of one give the score itself.
        once = np.ones((1, len(label)))
        drawn = draw_units(person, RESAMPLES, seed)
        values = _measure(once, probability, label, classes)
        resampled = _measure(drawn, probability, label, classes)
        values["accuracy_patients"] = _score_persons(once, probability, label, person)
        resampled["accuracy_patients"] = _score_persons(drawn, probability, label, person)
        if healthy in classes and len(classes) > 2:
            number = classes.index(healthy)
            values |= _score_tumours(once, probability, label, number)
            resampled |= _score_tumours(drawn, probability, label, number)
        # No interval: the calibration error of a resample is larger than that of the images it is drawn from.
        resampled["calibration_error"] = np.full(RESAMPLES, np.nan)
        persons = len(set(person))
        rows = []
        for metric, value in values.items():
            low, high = percentiles(resampled[metric], persons)
            rows.append((metric, value[0], low, high))
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


def score_sources(
    probability: Float[np.ndarray, "n k"],
    label: Int[np.ndarray, " n"],
    person: np.ndarray,
    listed: Bool[np.ndarray, " n"],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Recall of each class by source, with its 95 % bootstrap interval; no row unless a class has images of both.

    Rows `metric` ("listed_recall_" or "unlisted_recall_" and the class), `value`, `low`, `high`, `images`, `persons`.

    Args:
        person: of each image. Persons are resampled, because images of one aren't independent.
        listed: whether the patient of an image is known: images that a table of patients has are one source, those it
            lacks others.
    """
    if not any(len(np.unique(listed[label == k])) == 2 for k in np.unique(label)):
        return pd.DataFrame()
    rows = []
    correct = probability.argmax(1) == label
    for source, chosen in (("listed", listed), ("unlisted", ~listed)):
        drawn, persons = draw_units(person[chosen], RESAMPLES), len(set(person[chosen]))
        for k in np.unique(label[chosen]):
            of_class = label[chosen] == k
            weight, right = drawn[:, of_class], correct[chosen][of_class]
            with np.errstate(invalid="ignore"):
                # NaN where no image of the class is drawn
                low, high = percentiles(weight @ right / weight.sum(1), persons)
            counts = (len(right), len(set(person[chosen][of_class])))
            rows.append((f"{source}_recall_{classes[k]}", right.mean(), low, high, *counts))
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "images", "persons"])


def vote(
    probability: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"], person: np.ndarray
) -> tuple[Bool[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Whether the class with the highest mean probability over the images of a person is right.

    Returns:
        For each person, in the order of their first images; and the index of the first image. A person whose images
        have two classes counts once for each.
    """
    key = pd.Series(person).astype(str) + " " + pd.Series(label).astype(str)
    code, _ = pd.factorize(key)
    _, first = np.unique(code, return_index=True)
    total = np.zeros((len(first), probability.shape[1]))
    np.add.at(total, code, probability)
    return total.argmax(1) == label[first], first


def _score_persons(
    weight: Weights,
    probability: Float[np.ndarray, "n k"],
    label: Int[np.ndarray, " n"],
    person: np.ndarray,
) -> Float[np.ndarray, " r"]:
    """Accuracy over persons: the class with the highest mean probability over the images of each."""
    correct, first = vote(probability, label, person)
    # All images of a person are drawn together, so the first has the weight of the person.
    weight_of_person = weight[:, first]
    return weight_of_person @ correct / weight_of_person.sum(1)


def _score_tumours(
    weight: Weights, probability: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"], healthy: int
) -> dict[str, Float[np.ndarray, " r"]]:
    """Accuracy among the tumours, the class without tumour left out, and that of whether there is a tumour."""
    has_tumour = label != healthy
    tumours = np.delete(np.arange(probability.shape[1]), healthy)
    which = tumours[probability[:, tumours].argmax(1)]
    weight_of_tumours = weight[:, has_tumour]
    right = (which == label)[has_tumour]
    detected = (probability.argmax(1) != healthy) == has_tumour
    return {
        "accuracy_tumours": weight_of_tumours @ right / weight_of_tumours.sum(1),
        "accuracy_tumour_or_none": weight @ detected / weight.sum(1),
    }


def _measure(
    weight: Weights,
    probability: Float[np.ndarray, "n k"],
    label: Int[np.ndarray, " n"],
    classes: Sequence[str],
) -> dict[str, Float[np.ndarray, " r"]]:
    """Every score, for each row of weights."""
    num_classes = len(classes)
    predicted = probability.argmax(1)
    confidence = probability.max(1)
    # One product gives the confusion matrices of all resamples: each image has one cell.
    cells = np.eye(num_classes**2)
    cell = cells[label * num_classes + predicted]
    confusion = (weight @ cell).reshape(-1, num_classes, num_classes)
    correct = confusion.diagonal(axis1=1, axis2=2)
    true_count = confusion.sum(2)
    predicted_count = confusion.sum(1)
    precision = correct / predicted_count
    recall = correct / true_count
    # A class without images has no F1, however often it is predicted.
    f1 = 2 * correct / (true_count + predicted_count)
    f1 = np.where(true_count > 0, f1, np.nan)
    images = weight.sum(1)
    scores = {
        "accuracy": correct.sum(1) / images,
        "macro_f1": np.nanmean(f1, axis=1),
        "roc_auc": _area(weight, probability, label),
    }
    # Two loops, because the order of the scores is that of the table's rows.
    for k, name in enumerate(classes):
        scores[f"precision_{name}"] = precision[:, k]
    for k, name in enumerate(classes):
        scores[f"recall_{name}"] = recall[:, k]
    scores["confidence"] = weight @ confidence / images
    scores["calibration_error"] = _calibration_error(weight, confidence, predicted == label)
    return scores


def _area(
    weight: Weights,
    probability: Float[np.ndarray, "n k"],
    label: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " r"]:
    """Macro-averaged one-vs-rest area under the ROC curve."""
    areas = [area_under_curve(weight, column, label == number) for number, column in enumerate(probability.T)]
    return np.nanmean(areas, axis=0)


def area_under_curve(
    weight: Weights, value: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " r"]:
    """Area under the ROC curve for each row of weights; NaN where all are positive, or none is."""
    # As the Mann-Whitney statistic: how often a positive image has the higher value, ties counting half.
    order = np.argsort(value, kind="stable")
    # Where each distinct value begins; nothing is below minus infinity, so that the first begins too.
    starts = np.flatnonzero(np.diff(value[order], prepend=-np.inf))
    member = positive[order]
    ordered = weight[:, order]
    of_positive = np.add.reduceat(ordered * member, starts, axis=1)
    of_others = np.add.reduceat(ordered * ~member, starts, axis=1)
    below = np.cumsum(of_others, axis=1) - of_others / 2
    won = (of_positive * below).sum(1)
    pairs = of_positive.sum(1) * of_others.sum(1)
    return np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)


def _bins(confidence: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    # A confidence of 1 belongs to the last bin.
    number = (confidence * BINS).astype(int)
    return np.minimum(number, BINS - 1)


def _calibration_error(
    weight: Weights,
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
) -> Float[np.ndarray, " r"]:
    """Expected calibration error (ECE) over BINS of equal width."""
    gap = weight * (confidence - correct)
    # A product with the images' bins sums the gaps of each bin, for all resamples at once.
    in_bin = np.eye(BINS)[_bins(confidence)]
    by_bin = gap @ in_bin
    return np.abs(by_bin).sum(1) / weight.sum(1)


def calibrate(probability: Float[np.ndarray, "n k"], label: Int[np.ndarray, " n"]) -> pd.DataFrame:
    """Reliability diagram: rows `confidence`, `accuracy`, `images` of each bin that holds any."""
    confidence = probability.max(1)
    correct = probability.argmax(1) == label
    table = pd.DataFrame({"bin": _bins(confidence), "confidence": confidence, "accuracy": correct})
    bins = table.groupby("bin").agg(
        confidence=("confidence", "mean"),
        accuracy=("accuracy", "mean"),
        images=("accuracy", "size"),
    )
    return bins.reset_index(drop=True)


def confusion_matrix(
    probability: Float[np.ndarray, "n k"],
    label: Int[np.ndarray, " n"],
) -> Int[np.ndarray, "k k"]:
    """Number of images by true class (rows) and predicted class (columns)."""
    num_classes = probability.shape[1]
    cell = label * num_classes + probability.argmax(1)
    # At least as many counts as cells, though nothing may be in the last.
    counts = np.bincount(cell, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def compare(correct: Mapping[str, Bool[np.ndarray, " n"]]) -> pd.DataFrame:
    """McNemar's exact test of each pair of networks, with Holm's correction.

    Args:
        correct: network > whether it is right on each of the same persons. Not on images: those of one person aren't
            independent.

    Returns: rows `network`, `other`, `only_network`, `only_other` (persons that only one gets right), `p_value`,
        `p_holm`.
    """
    rows = []
    for one, other in combinations(correct, 2):
        one_right, other_right = correct[one], correct[other]
        only_one = int((one_right & ~other_right).sum())
        only_other = int((other_right & ~one_right).sum())
        discordant = only_one + only_other
        # Two networks that are right on the same images don't differ.
        p_value = scipy.stats.binomtest(only_one, discordant).pvalue if discordant else 1.0
        rows.append((one, other, only_one, only_other, p_value))
    table = pd.DataFrame(rows, columns=["network", "other", "only_network", "only_other", "p_value"])
    # Holm: the smallest p-value times the number of tests, the next times one less, never below the one before.
    order = table["p_value"].argsort()
    tests = np.arange(len(table), 0, -1)
    holm = table["p_value"][order] * tests
    holm = holm.cummax().clip(upper=1)
    return table.assign(p_holm=holm.reindex(table.index))
