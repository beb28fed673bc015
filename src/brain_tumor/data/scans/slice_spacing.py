"""Whether slices make a volume, and how much of it each stands for.

One rule for volumes in reports, surfaces, survival and masks.
"""

import numpy as np
from jaxtyping import Int

FEWEST_SLICES = 3
"""Fewer make no volume: every voxel would be surface, and two lie evenly however far apart."""

FARTHEST_MM = 15.0
"""Millimetres from slice to slice with which slices still make a volume.

A tumour of a few centimetres would lie in two of them.
"""

MOST_MISSING = 0.1
"""Fraction of evenly spaced slices that may be missing."""


def find_step(numbers: Int[np.ndarray, " n"], slice_mm: float = 1.0) -> int | None:
    """How many slice numbers lie from one slice to the next; None if the slices make no volume.

    They do if there are at least three, at equal distances of at most 15 mm, of which at most one in ten is missing.
    A slice stands for the space up to the next: of every sixth slice of 1 mm each counts 6 mm.

    Args:
        numbers: of the slices, in any order; one that is there twice makes no volume.
        slice_mm: millimetres from number to number.
    """
    if len(numbers) < FEWEST_SLICES or len(np.unique(numbers)) < len(numbers):
        return None
    ordered = np.sort(numbers)
    gaps = np.diff(ordered)
    # The greatest common divisor, not the smallest gap: a missing slice makes a gap of two steps.
    step = int(np.gcd.reduce(gaps))
    places = (ordered[-1] - ordered[0]) // step + 1
    complete = len(numbers) >= (1 - MOST_MISSING) * places
    near = step * slice_mm <= FARTHEST_MM
    return step if complete and near else None
