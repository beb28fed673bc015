"""The window: the part of each slice that networks see, one for a whole store, which holds every brain in it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float16, UInt8

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import Store

BRAIN = tuple(f"brain_{side}" for side in BoundingBox._fields)
"""Columns of a store of slices: the box around the brain of each, and around what is labelled in it."""


def locate_brain(
    image: Float16[np.ndarray, "m h w"],
    labels: UInt8[np.ndarray, "h w"],
) -> dict[str, np.int16]:
    """Those columns of a prepared slice, which is 0 outside its brain."""
    brain = np.any(image != 0, axis=0)
    # Masks may reach beyond the brain, and no crop may cut a mask.
    box = BoundingBox.from_mask(brain | (labels > 0))
    return {name: np.int16(end) for name, end in zip(BRAIN, box, strict=True)}


def find_brain_crop(store: Store) -> BoundingBox:
    """Sides are multiples of 16. All of an image if the store doesn't say where brains are."""
    shapes = store.shapes
    height, width = shapes["image"][-2:]
    whole = BoundingBox(0, height, 0, width)
    if not set(BRAIN) <= set(shapes):
        return whole
    top, bottom, left, right = store.read_columns(*BRAIN)
    # A slice without brain has a box of zeros, whose top and left must not count.
    seen = bottom > top
    if not seen.any():
        return whole
    box = BoundingBox(
        top=int(top[seen].min()),
        bottom=int(bottom.max()),
        left=int(left[seen].min()),
        right=int(right.max()),
    )
    # Prepared slices are square, so one side bounds both.
    return box.pad_to_multiple(height)


def crop_shape(about: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns that a network saw, from its description; those of earlier versions saw whole slices."""
    size = about["slice_size"]
    height, width = about.get("window", [size, size])
    return height, width
