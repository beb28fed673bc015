"""Surface distances between two masks, in millimetres. MONAI computes them; it takes seconds to import."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, UInt8

from brain_tumor.data.scans.slice_spacing import find_step

TOLERANCE = 2.0
"""Distance up to which surfaces agree, in millimetres. About one pixel of a slice of 128 x 128."""

MAX_HD95_MM = 373.13
"""Distance where one of the masks is empty, in millimetres: the diagonal of a BraTS scan.

Source: BraTS 2020 evaluation.
"""


def to_volume(
    slices: UInt8[np.ndarray, "n h w"],
    numbers: Int[np.ndarray, " n"],
    slice_mm: float = 1.0,
) -> tuple[UInt8[np.ndarray, "d h w"], int] | None:
    """Slices as a volume, and the step between their numbers; None where `find_step` finds no volume.

    Args:
        numbers: of the slices, in any order. A missing slice is filled with background.
        slice_mm: millimetres between consecutive numbers.
    """
    step = find_step(numbers, slice_mm)
    if step is None:
        return None
    heights = (numbers - numbers.min()) // step
    depth = heights.max() + 1
    volume = np.zeros((depth, *slices.shape[1:]), slices.dtype)
    volume[heights] = slices
    return volume, step


def score_surfaces(
    truth: UInt8[np.ndarray, "d h w"],
    predicted: UInt8[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
    targets: Mapping[str, Sequence[int]],
) -> pd.DataFrame:
    """HD95 (95th percentile of the Hausdorff distance, mm) and surface Dice at TOLERANCE of one patient.

    Rule of BraTS 2020 for empty masks: both empty 0 mm and Dice 1, one empty 373.13 mm and Dice 0.

    Args:
        spacing: millimetres, (slice, row, column).

    Returns: rows `target`, `metric`, `value`.
    """
    rows = []
    for name, labels in targets.items():
        true = np.isin(truth, labels)
        pred = np.isin(predicted, labels)
        hd95, dice = score_surface(true, pred, spacing)
        rows += [(name, "hd95_mm", hd95), (name, "surface_dice", dice)]
    return pd.DataFrame(rows, columns=["target", "metric", "value"])


def score_surface(
    truth: Bool[np.ndarray, "d h w"],
    predicted: Bool[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
) -> tuple[float, float]:
    """HD95 in millimetres and surface Dice at TOLERANCE of two masks, by the rule of `score_surfaces`."""
    if not truth.any() and not predicted.any():
        return 0.0, 1.0
    if not truth.any() or not predicted.any():
        return MAX_HD95_MM, 0.0
    # Imported here: MONAI takes seconds, and empty masks don't need it.
    import torch
    from monai.metrics.utils import get_edge_surface_distance

    # Cropped to both masks: distances need no more of the volume, and take time with its size.
    box = crop_to(truth | predicted)
    masks = torch.from_numpy(predicted[box]), torch.from_numpy(truth[box])
    with warnings.catch_warnings():
        # MONAI warns of its own call.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        # The distances of which MONAI's HD95 and surface Dice are made, found once for both.
        _, distances, _ = get_edge_surface_distance(*masks, spacing=spacing, symmetric=True)
    there, back = (each.numpy().astype(float) for each in distances)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    near = (there <= TOLERANCE).sum() + (back <= TOLERANCE).sum()
    return float(hd95), float(near / (len(there) + len(back)))


def crop_to(mask: Bool[np.ndarray, "d h w"], margin: int = 1) -> tuple[slice, ...]:
    """Bounding box of a mask with a margin in voxels, as slices of its axes."""
    box = []
    for other_axes in ((1, 2), (0, 2), (0, 1)):
        occupied = np.flatnonzero(mask.any(other_axes))
        start = max(0, occupied[0] - margin)
        # A slice may end after the array does.
        end = occupied[-1] + 1 + margin
        box.append(slice(start, end))
    return tuple(box)
