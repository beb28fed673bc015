"""Distances between the surfaces of two masks, in millimetres. Computed by MONAI, which takes seconds to import."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, UInt8

from brain_tumor.data.scans.slice_spacing import find_step

TOLERANCE = 2.0
"""Millimetres: surfaces closer than this agree. About one pixel of a slice of 128 x 128."""

FARTHEST = 373.13
"""Millimetres: the distance where one of the masks is empty, the diagonal of a BraTS scan. Source.

BraTS 2020 evaluation.
"""


def to_volume(
    slices: UInt8[np.ndarray, "n h w"], numbers: Int[np.ndarray, " n"], slice_mm: float = 1.0
) -> tuple[UInt8[np.ndarray, "d h w"], int] | None:
    """Slices at their heights, and how many slice numbers lie between two of them.

    None if they make no volume (`find_step`). A missing one is empty.

    Args:
        slice_mm: millimetres from number to number.
    """
    step = find_step(numbers, slice_mm)
    if step is None:
        return None
    heights = (numbers - numbers.min()) // step
    volume = np.zeros((heights.max() + 1, *slices.shape[1:]), slices.dtype)
    volume[heights] = slices
    return volume, step


def score_surfaces(
    truth: UInt8[np.ndarray, "d h w"],
    predicted: UInt8[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
    targets: Mapping[str, Sequence[int]],
) -> pd.DataFrame:
    """95th percentile of the Hausdorff distance, and surface Dice within `TOLERANCE`, of one patient.

    Rows `target`, `metric`, `value`.

    Rule of BraTS 2020 for empty masks: both empty 0 mm and Dice 1, one empty 373.13 mm and Dice 0.

    Args:
        spacing: millimetres, (slice, row, column).
    """
    rows = []
    for name, labels in targets.items():
        hd95, dice = _score_surface(np.isin(truth, labels), np.isin(predicted, labels), spacing)
        rows += [(name, "hd95_mm", hd95), (name, "surface_dice", dice)]
    return pd.DataFrame(rows, columns=["target", "metric", "value"])


def _score_surface(
    truth: Bool[np.ndarray, "d h w"], predicted: Bool[np.ndarray, "d h w"], spacing: tuple[float, float, float]
) -> tuple[float, float]:
    if not truth.any() or not predicted.any():
        return (0.0, 1.0) if truth.any() == predicted.any() else (FARTHEST, 0.0)
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    window = _window(truth | predicted)
    found, there = (torch.from_numpy(mask[window])[None, None] for mask in (predicted, truth))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)  # of MONAI to itself
        hd95 = compute_hausdorff_distance(found, there, include_background=True, percentile=95, spacing=spacing)
        dice = compute_surface_dice(found, there, [TOLERANCE], include_background=True, spacing=spacing)
    return float(hd95), float(dice)


def _window(mask: Bool[np.ndarray, "d h w"]) -> tuple[slice, ...]:
    """The box around a mask with one voxel of margin: distances need no more of the volume."""
    ranges = [np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    return tuple(slice(max(0, found[0] - 1), found[-1] + 2) for found in ranges)
