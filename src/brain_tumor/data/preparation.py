"""A slice made ready for a network: standardised over its brain, padded to a square, resized."""

import numpy as np
from jaxtyping import Bool, Float, Float16, Num, UInt8
from PIL import Image
from pydantic import BaseModel, Field


class PreparationSettings(BaseModel, frozen=True, extra="forbid"):
    """How slices are prepared. `slice_size`: side in pixels, a multiple of 16 for the U-Nets."""

    slice_size: int = Field(128, ge=16, multiple_of=16)


def prepare_slice(
    image: Num[np.ndarray, "m h w"], labels: UInt8[np.ndarray, "h w"], size: int
) -> tuple[Float16[np.ndarray, "m s s"], UInt8[np.ndarray, "s s"]]:
    """Image and labels as the store holds them. Images are resized bilinearly (area-aware), labels by the nearest pixel."""
    image, labels = _to_square(standardise(image)), _to_square(labels)
    if labels.shape != (size, size):
        image = np.stack([np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR)) for plane in image])
        labels = np.asarray(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST))
    return image.astype(np.float16), labels


def find_brain(image: Num[np.ndarray, "m h w"]) -> Bool[np.ndarray, "h w"]:
    """Where any modality differs from its background, the value that most of the slice's border has."""
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    background = np.sort(border, axis=1)[:, border.shape[1] // 2]
    return np.any(image != background[:, None, None], axis=0)


def standardise(image: Num[np.ndarray, "m h w"]) -> Float[np.ndarray, "m h w"]:
    """Mean 0 and deviation 1 over the brain of this slice, for each modality; 0 outside the brain and where it is constant.

    The published HDF5 slices were standardised over the whole slice, background included, which no two slices
    share. Standardising over the brain undoes that: a linear map of the intensities changes nothing.
    """
    brain = find_brain(image)
    values = image[:, brain].astype(np.float64)
    result = np.zeros(image.shape, np.float32)
    if values.size:
        deviation = values.std(1, keepdims=True)
        centred = values - values.mean(1, keepdims=True)
        result[:, brain] = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-9)
    return result


def _to_square(array: np.ndarray) -> np.ndarray:
    """The last two axes padded with 0 on both sides to the longer of them."""
    height, width = array.shape[-2:]
    side = max(height, width)
    rows, columns = (side - height) // 2, (side - width) // 2
    padding = [(0, 0)] * (array.ndim - 2) + [(rows, side - height - rows), (columns, side - width - columns)]
    return np.pad(array, padding) if height != width else array
