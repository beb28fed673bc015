"""A slice made ready for a network: standardised over its brain, padded to a square, resized."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float16, Num, UInt8
from pydantic import BaseModel, Field

from brain_tumor.data.common.bounding_box import BoundingBox

PREPARATION = 7
"""Raised when the same slice would be prepared in another way: stores of older preparations are then written again."""


class PreparationSettings(BaseModel, frozen=True, extra="forbid"):
    """How slices are prepared. `slice_size`: side in pixels, a multiple of 16 for the U-Nets."""

    slice_size: int = Field(128, ge=16, multiple_of=16)


def prepare_slice(
    image: Num[np.ndarray, "m h w"], labels: UInt8[np.ndarray, "h w"], size: int
) -> tuple[Float16[np.ndarray, "m s s"], UInt8[np.ndarray, "s s"]]:
    """Image and labels as the store holds them.

    Images are resized bilinearly (area-aware), labels by the nearest pixel.
    """
    image, labels = _to_square(standardise(image)), _to_square(labels)
    side = labels.shape[0]
    if side != size:
        weights = _bilinear_weights(side, size)
        nearest = ((np.arange(size) + 0.5) * side / size).astype(int)
        image, labels = weights @ image @ weights.T, labels[np.ix_(nearest, nearest)]
    return image.astype(np.float16), labels


@lru_cache
def _bilinear_weights(side: int, size: int) -> Float[np.ndarray, "t s"]:
    """What each of `size` new pixels takes of `side` old ones.

    A triangle as wide as two of the larger pixels, as in Pillow.

    Two products with this matrix resize all modalities at once, in half of Pillow's time.
    """
    scale = side / size
    centre = (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(side) + 0.5 - centre[:, None]) / max(scale, 1)
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def find_brain(image: Num[np.ndarray, "m h w"]) -> Bool[np.ndarray, "h w"]:
    """Where any modality differs from its background, the most frequent value on the slice's border.

    A brain may touch three of its sides.
    """
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    background = np.array([_most_frequent(values) for values in border])
    return np.any(image != background[:, None, None], axis=0)


def _most_frequent(values: Num[np.ndarray, " n"]) -> np.generic:
    """The median where half of the values are equal, which is quick to check, else the mode."""
    ordered = np.sort(values)
    median = ordered[len(ordered) // 2]
    if np.count_nonzero(values == median) * 2 > len(values):
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
        deviation = np.sqrt(np.einsum("mhw,mhw->m", values, values) / inside.sum())
        values *= np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-9)[:, None, None]
        box.crop(result)[...] = values
    return result


def _to_square(array: np.ndarray) -> np.ndarray:
    """The last two axes padded with 0 on both sides to the longer of them."""
    height, width = array.shape[-2:]
    side = max(height, width)
    rows, columns = (side - height) // 2, (side - width) // 2
    padding = [(0, 0)] * (array.ndim - 2) + [(rows, side - height - rows), (columns, side - width - columns)]
    return np.pad(array, padding) if height != width else array
