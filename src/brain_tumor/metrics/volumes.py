"""Scores of a predicted mask of one patient against the reference mask, over the whole volume."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from brain_tumor.data.scans.slice_spacing import FEWEST_SLICES
from brain_tumor.metrics.segmentation import count_slices, score_patients
from brain_tumor.metrics.surfaces import score_surfaces


def score_volume(
    patient: str,
    truth: UInt8[np.ndarray, "h w d"],
    predicted: UInt8[np.ndarray, "h w d"],
    spacing: tuple[float, float, float],
    targets: Mapping[str, Sequence[int]],
) -> pd.DataFrame:
    """Scores in protocol `volume` on the masks' own grid; distances between surfaces where it has three slices or more.

    Args:
        truth: labels of the reference mask.
        spacing: millimetres, (row, column, slice).

    Returns: rows `patient`, `target`, `metric`, `value`.
    """
    true, pred = to_slices(truth), to_slices(predicted)
    counts = count_slices(true, pred, targets)
    scores = score_patients(counts.assign(patient=patient))
    if len(true) < FEWEST_SLICES:
        return scores
    row_mm, column_mm, slice_mm = spacing
    surfaces = score_surfaces(true, pred, (slice_mm, row_mm, column_mm), targets)
    return pd.concat([scores, surfaces.assign(patient=patient)], ignore_index=True)


def to_slices(volume: UInt8[np.ndarray, "h w d"]) -> UInt8[np.ndarray, "d h w"]:
    """A volume with its slices along the first axis, as metrics have them."""
    return np.moveaxis(volume, -1, 0)
