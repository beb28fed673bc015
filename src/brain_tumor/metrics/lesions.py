"""Scores of each lesion: the lesion-wise protocol of BraTS 2023.

A lesion is what hangs together in the reference mask after a dilation, so that fragments close to each other are one.
Every predicted component that touches the dilated lesion belongs to it. A missed lesion has a Dice of 0 and the penalty
for a distance; so has every predicted component that belongs to no lesion. Lesions up to a volume are left out of the
mean, but a component that belongs to one of them is no false positive.

MONAI's `DiceMetric(per_component=True)` is another protocol: it gives each voxel to the nearest component of the
reference mask, without dilation, smallest volume or penalty for false positives.

Source: the organisers' own program, https://github.com/rachitsaluja/BraTS-2023-Metrics.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import scipy  # its parts are imported when used
from jaxtyping import Bool, Int, UInt8
from pydantic import BaseModel, Field

from brain_tumor.data.scans.components import label_components
from brain_tumor.metrics.surfaces import crop_to, score_surface

LESION = "lesion"
"""Name of the protocol in tables."""

FOUND, MISSED, FALSE, SMALL = "found", "missed", "false positive", "too small"
"""What becomes of a lesion. The last is left out of the mean; of false positives all count."""

LESION_DICE, LESION_HD95, LESION_SURFACE = "lesion_dice", "lesion_hd95_mm", "lesion_surface_dice"
"""Means over the lesions of a patient."""

COLUMNS = ["patient", "target", "lesion", "outcome", "ml", "dice", "hd95_mm", "surface_dice"]


class LesionSettings(BaseModel, frozen=True, extra="forbid"):
    """What makes a lesion.

    Attributes:
        dilation: voxels by which the reference mask is dilated; fragments that it joins are one lesion.
        min_mm3: lesions of this volume or less are left out.
        penalty_mm: HD95 of a missed lesion and of a false positive.
    """

    dilation: int = Field(3, ge=0)
    min_mm3: float = Field(50.0, ge=0)
    penalty_mm: float = Field(374.0, ge=0)


def score_lesions(
    patient: str,
    truth: UInt8[np.ndarray, "h w d"],
    predicted: UInt8[np.ndarray, "h w d"],
    spacing: tuple[float, float, float],
    targets: Mapping[str, Sequence[int]],
    settings: LesionSettings,
) -> pd.DataFrame:
    """A row of COLUMNS for each lesion of each target, and for each predicted component that belongs to none.

    Args:
        truth: labels of the reference mask.
        spacing: millimetres of the three axes.
    """
    rows = []
    for target, labels in targets.items():
        true, pred = np.isin(truth, labels), np.isin(predicted, labels)
        found = _score_target(true, pred, spacing, settings)
        rows += [(patient, target, number, *scores) for number, scores in enumerate(found, start=1)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _score_target(
    truth: Bool[np.ndarray, "h w d"],
    predicted: Bool[np.ndarray, "h w d"],
    spacing: tuple[float, float, float],
    settings: LesionSettings,
) -> Iterator[tuple[str, float, float, float, float]]:
    """Outcome, millilitres, Dice, HD95 and surface Dice of each lesion, then of each false positive."""
    either = truth | predicted
    if not either.any():
        return
    # Cropped with room for the dilation: what lies farther away changes nothing.
    box = crop_to(either, settings.dilation + 1)
    truth, predicted = truth[box], predicted[box]
    voxel_mm3 = float(np.prod(spacing))
    lesions = join_lesions(truth, settings.dilation)
    components, volumes = label_components(predicted, voxel_mm3 / 1000)
    belongs = np.zeros(len(volumes), bool)
    for number in range(1, lesions.max() + 1):
        lesion = lesions == number
        touched = np.unique(components[dilate(lesion, settings.dilation)])
        own = touched[touched > 0]
        belongs[own] = True
        mm3 = float(lesion.sum()) * voxel_mm3
        counts = mm3 > settings.min_mm3
        if len(own):
            scores = _score_lesion(lesion, np.isin(components, own), spacing)
            yield FOUND if counts else SMALL, mm3 / 1000, *scores
        else:
            yield MISSED if counts else SMALL, mm3 / 1000, 0.0, settings.penalty_mm, 0.0
    for number in range(1, len(volumes)):
        if not belongs[number]:
            yield FALSE, float(volumes[number]), 0.0, settings.penalty_mm, 0.0


def join_lesions(truth: Bool[np.ndarray, "h w d"], dilation: int) -> Int[np.ndarray, "h w d"]:
    """Number of the lesion of each voxel, 0 outside."""
    joined, _ = label_components(dilate(truth, dilation), 1.0)
    return np.where(truth, joined, 0)


def dilate(mask: Bool[np.ndarray, "h w d"], voxels: int) -> Bool[np.ndarray, "h w d"]:
    """A mask that has grown by so many voxels, each time into neighbours that share a face or an edge."""
    # scipy dilates 0 times until nothing changes any more.
    if voxels == 0:
        return mask
    neighbours = scipy.ndimage.generate_binary_structure(3, 2)
    box = crop_to(mask, voxels) if mask.any() else ()
    grown = np.zeros_like(mask)
    grown[box] = scipy.ndimage.binary_dilation(mask[box], neighbours, voxels)
    return grown


def _score_lesion(
    lesion: Bool[np.ndarray, "h w d"],
    predicted: Bool[np.ndarray, "h w d"],
    spacing: tuple[float, float, float],
) -> tuple[float, float, float]:
    dice = 2 * (lesion & predicted).sum() / (lesion.sum() + predicted.sum())
    hd95, surface_dice = score_surface(lesion, predicted, spacing)
    return float(dice), hd95, surface_dice


def average_lesions(lesions: pd.DataFrame, patient: str, targets: Sequence[str]) -> pd.DataFrame:
    """Means over the lesions and false positives of a patient, rows `patient`, `target`, `metric`, `value`.

    Without either, Dice is 1 and the distance 0.
    """
    counted = lesions[lesions["outcome"] != SMALL]
    rows = []
    for target in targets:
        own = counted[counted["target"] == target]
        perfect = own.empty
        means = {
            LESION_DICE: 1.0 if perfect else own["dice"].mean(),
            LESION_HD95: 0.0 if perfect else own["hd95_mm"].mean(),
            LESION_SURFACE: 1.0 if perfect else own["surface_dice"].mean(),
        }
        rows += [(patient, target, metric, value) for metric, value in means.items()]
    return pd.DataFrame(rows, columns=["patient", "target", "metric", "value"])


def count_outcomes(lesions: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """How many lesions were found, missed, invented or too small, for each value of the columns `by`."""
    counts = lesions.groupby([*by, "outcome"], sort=False).size().unstack(fill_value=0)
    return counts.reindex(columns=[FOUND, MISSED, FALSE, SMALL], fill_value=0).reset_index()
