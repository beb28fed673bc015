"""Removal of borders from published images: dark margins, frames, text in the corners."""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from pydantic import BaseModel, Field

from brain_tumor.data.common.bounding_box import BoundingBox

Fit = Literal["pad", "stretch"]

WORKING_SIDE = 192
"""Borders are found on an image reduced to this side: one of its pixels is half a percent of the image."""

MIN_CONTRAST = 12
"""Minimum grey levels of anatomy above the background."""

MIN_RELATIVE_CONTRAST = 0.1
"""The same as a fraction of the range from the background to the 99th percentile."""

FRAME_TOLERANCE = 10
"""Largest difference in grey levels between the pixels of a frame's line and their median."""

MIN_FRAME_FRACTION = 0.92
"""Minimum fraction of a line at the frame's level; the rest may be a scratch or a rounded corner."""

MIN_PART = 0.05
"""Parts below this fraction of the largest part's area are text, rulers or specks."""

MIN_FOREGROUND = 0.005
"""Images with a smaller fraction above the background are too dark to find borders in."""


def find_box(image: UInt8[np.ndarray, "h w"]) -> BoundingBox | None:
    """Bounding box of all anatomy; None for an image that is too dark, which is kept whole."""
    step = min(-(-max(image.shape) // WORKING_SIDE), *image.shape)
    small = _shrink(image, step)
    inner = _inside_frames(small)
    anatomy = _find_anatomy(inner.crop(small))
    if anatomy is None:
        return None
    top, left = inner.top + anatomy.top, inner.left + anatomy.left
    bottom, right = inner.top + anatomy.bottom, inner.left + anatomy.right
    return BoundingBox(top * step, bottom * step, left * step, right * step)


def _shrink(image: UInt8[np.ndarray, "h w"], step: int) -> UInt8[np.ndarray, "i j"]:
    """The mean of each `step` x `step` pixels."""
    height, width = (side // step * step for side in image.shape)
    if step == 3:  # what most published images take: the same values as below, in half of the time
        return cv2.blur(image[:height, :width], (3, 3))[1::3, 1::3]
    return cv2.resize(image[:height, :width], (width // step, height // step), interpolation=cv2.INTER_AREA)


def _inside_frames(image: UInt8[np.ndarray, "h w"]) -> BoundingBox:
    """Box inside all frames: lines of one grey level, dark or bright, are removed from the four sides until none is."""
    box, before = BoundingBox(0, image.shape[0], 0, image.shape[1]), None
    while box != before and min(box.bottom - box.top, box.right - box.left) > 8:
        before = box
        inner = box.crop(image)
        top, bottom = _flat_ends(inner)
        left, right = _flat_ends(np.ascontiguousarray(inner.T))
        if top + bottom < inner.shape[0] and left + right < inner.shape[1]:
            box = BoundingBox(box.top + top, box.bottom - bottom, box.left + left, box.right - right)
    return box


def _flat_ends(image: UInt8[np.ndarray, "h w"]) -> tuple[int, int]:
    """Number of rows at the top and at the bottom that have one grey level each."""
    # The two outermost rows alone decide for most images, and cost a hundredth of all rows.
    if _rough(image[:: len(image) - 1]).all():
        return 0, 0
    rough = _rough(image)
    if not rough.any():
        return 0, 0
    return int(rough.argmax()), int(rough[::-1].argmax())


def _rough(image: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, " h"]:
    """Rows without a grey level that nearly all of their pixels share."""
    sample = np.sort(image[:, :: max(1, image.shape[1] // 64)].astype(np.int16), axis=1)  # int16 is sorted in vectors
    near = np.abs(image - sample[:, sample.shape[1] // 2, None]) <= FRAME_TOLERANCE
    return (
        cv2.reduce(near.view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0] < MIN_FRAME_FRACTION * image.shape[1]
    )


def _find_anatomy(image: UInt8[np.ndarray, "h w"]) -> BoundingBox | None:
    """Bounding box of the parts above the background, without thin and small ones."""
    levels = np.sort(image[::4, ::4].astype(np.int16), axis=None)
    background, bright = levels[len(levels) // 50], levels[-1 - len(levels) // 100]
    smooth = cv2.GaussianBlur(image, (5, 5), 0, borderType=cv2.BORDER_REPLICATE)
    mask = (smooth > background + max(MIN_CONTRAST, MIN_RELATIVE_CONTRAST * (bright - background))).astype(np.uint8)
    # Opening removes thin lines; closing then joins what the opening broke apart.
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    if mask.mean() < MIN_FOREGROUND:
        return None
    outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    area = np.array([cv2.contourArea(outline) for outline in outlines])
    boxes = np.array([cv2.boundingRect(outline) for outline in outlines])
    left, top, wide, tall = boxes[area >= MIN_PART * area.max()].T
    return BoundingBox(int(top.min()), int((top + tall).max()), int(left.min()), int((left + wide).max()))


def cut(
    image: UInt8[np.ndarray, "h w"], box: BoundingBox | None, size: int, fit: Fit = "pad"
) -> UInt8[np.ndarray, "s s"]:
    """The box as a square of `size` pixels: stretched, or padded with black to keep the aspect ratio."""
    inner = image if box is None else box.crop(image)
    height, width = inner.shape
    side = max(height, width)
    tall = size if fit == "stretch" else max(1, round(height * size / side))
    wide = size if fit == "stretch" else max(1, round(width * size / side))
    # Down to half the size bilinear interpolation uses every pixel, in a third of the time that averaging takes.
    shrinks = 2 * max(tall, wide) < side
    resized = cv2.resize(inner, (wide, tall), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    square = np.zeros((size, size), np.uint8)
    top, left = (size - tall) // 2, (size - wide) // 2
    square[top : top + tall, left : left + wide] = resized
    return square


class ImagePreparation(BaseModel, frozen=True, extra="forbid"):
    """How images are prepared.

    Attributes:
        image_size: side in pixels.
        fit: "pad" keeps the aspect, with black beside the image; "stretch" fills the square.
    """

    image_size: int = Field(128, ge=32)
    fit: Fit = "pad"
