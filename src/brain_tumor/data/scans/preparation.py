"""A slice made ready for a network: standardised over its brain, padded to a square, resized."""

from functools import lru_cache
from math import ceil

import numpy as np
from jaxtyping import Bool, Float, Float16, Num, UInt8
from pydantic import BaseModel, Field

from brain_tumor.data.common.bounding_box import BoundingBox

PREPARATION = 7
"""Raised when the same slice would be prepared in another way: stores are then written again, and networks refused."""

ROUNDING = 0.01
"""Parts of a pixel by which a field of view may differ from another by rounding."""


class PreparationSettings(BaseModel, frozen=True, extra="forbid"):
    """How slices are prepared. `slice_size`: side in pixels, a multiple of 16 for the U-Nets."""

    slice_size: int = Field(128, ge=16, multiple_of=16)


def prepare_slice(
    image: Num[np.ndarray, "m h w"],
    labels: UInt8[np.ndarray, "h w"],
    size: int,
) -> tuple[Float16[np.ndarray, "m s s"], UInt8[np.ndarray, "s s"]]:
    """Image and labels as the store holds them.

    Images are resized bilinearly (area-aware), labels by the nearest pixel.
    """
    # Standardised first: the padding has the value 0 of the background.
    image = _to_square(standardise(image))
    labels = _to_square(labels)
    side = labels.shape[0]
    if side != size:
        weights = resize_weights(side, size, side / size)
        image = weights @ image @ weights.T
        # Positions are centres of pixels, as in the weights: both shrink around the same place.
        centres = (np.arange(size) + 0.5) * side / size
        nearest = centres.astype(int)
        labels = labels[np.ix_(nearest, nearest)]
    return image.astype(np.float16), labels


@lru_cache
def resize_weights(side: int, size: int, scale: float) -> Float[np.ndarray, "t s"]:
    """What each of `size` new pixels takes of `side` old ones; both lie around the same centre.

    A triangle as wide as two of the larger pixels, as in Pillow. What lies beyond the old pixels is 0.

    Two products with such matrices resize all modalities at once, in half of Pillow's time.

    Args:
        scale: old pixels to a new one.
    """
    # New pixels may reach beyond the old ones, into the background.
    beyond = max(0, ceil((size * scale - side) / 2 - ROUNDING))
    old = np.arange(-beyond, side + beyond) + 0.5
    new = side / 2 + (np.arange(size) + 0.5 - size / 2) * scale
    # In units of the larger pixel, so that shrinking averages all old pixels under a new one.
    apart = np.abs(old - new[:, None])
    distance = apart / max(scale, 1)
    weights = np.maximum(1 - distance, 0)
    # At the borders a part of the triangle lies outside; the sum makes up for it.
    shares = weights / weights.sum(1, keepdims=True)
    return shares[:, beyond : beyond + side].astype(np.float32)


def find_brain(image: Num[np.ndarray, "m h w"]) -> Bool[np.ndarray, "h w"]:
    """Where any modality differs from its background, the most frequent value on the slice's border.

    A brain may touch three of its sides.
    """
    top = image[:, 0]
    bottom = image[:, -1]
    left = image[:, :, 0]
    right = image[:, :, -1]
    border = np.concatenate([top, bottom, left, right], axis=1)
    background = np.array([_most_frequent(values) for values in border])
    differs = image != background[:, None, None]
    return np.any(differs, axis=0)


def _most_frequent(values: Num[np.ndarray, " n"]) -> np.generic:
    """The median where half of the values are equal, which is quick to check, else the mode."""
    ordered = np.sort(values)
    median = ordered[len(ordered) // 2]
    equal = np.count_nonzero(values == median)
    if equal * 2 > len(values):
        return median
    found, counts = np.unique(ordered, return_counts=True)
    return found[counts.argmax()]


def standardise(image: Num[np.ndarray, "m h w"]) -> Float[np.ndarray, "m h w"]:
    """Mean 0 and deviation 1 over the brain of this slice, for each modality.

    0 outside the brain and where it is constant.

    The published HDF5 slices were standardised over the whole slice, background included, which no two slices
    share. Standardising over the brain undoes that: a linear map of the intensities changes nothing.
    """
    brain = find_brain(image)
    result = np.zeros(image.shape, np.float32)
    box = BoundingBox.from_mask(brain)
    if brain.any():
        inside = box.crop(brain)
        values = box.crop(image).astype(np.float64)
        values -= values.mean((1, 2), where=inside, keepdims=True)
        values *= inside
        squares = np.einsum("mhw,mhw->m", values, values)
        deviation = np.sqrt(squares / inside.sum())
        # A constant modality becomes 0 instead of a division by rounding errors.
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-9)
        values *= scale[:, None, None]
        box.crop(result)[...] = values
    return result


def _to_square(array: np.ndarray) -> np.ndarray:
    """The last two axes padded with 0 on both sides to the longer of them."""
    height, width = array.shape[-2:]
    if height == width:
        return array
    side = max(height, width)
    top = (side - height) // 2
    bottom = side - height - top
    left = (side - width) // 2
    right = side - width - left
    other_axes = [(0, 0)] * (array.ndim - 2)
    return np.pad(array, [*other_axes, (top, bottom), (left, right)])
