"""Cropping of published images: dark margins, frames and text in the corners are cut away."""

from math import ceil
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from pydantic import BaseModel, Field

from brain_tumor.data.common.bounding_box import BoundingBox

PREPARATION = 2
"""Raised when the same image would be prepared in another way: stores are then written again, and networks refused."""

Fit = Literal["pad", "stretch"]

WORKING_SIDE = 192
"""Longer side of the reduced image in which borders are found: a pixel of it is half a percent of the image."""

MIN_CONTRAST = 12
"""Smallest difference of anatomy to the background, in grey levels."""

MIN_RELATIVE_CONTRAST = 0.1
"""The same as a fraction of the range from the background to the brightest percent."""

FLATNESS = 10
"""Largest difference of the pixels of a frame's line to their median, in grey levels."""

FRAME = 0.92
"""Fraction of a line that must have the frame's level; the rest may be a scratch or a rounded corner."""

SMALLEST_INSIDE = 8
"""Sides of what is inside a frame, in pixels of the reduced image: no frame is looked for in less."""

SAMPLE = 64
"""Pixels of a line, at least, from which its median is taken."""

MIN_AREA = 0.05
"""Area of a part as a fraction of the largest; smaller parts are text, rulers, specks."""

MIN_FOREGROUND = 0.005
"""Fraction of an image above the background below which it is too dark to be cropped."""


def find_box(image: UInt8[np.ndarray, "h w"]) -> BoundingBox | None:
    """Bounding box of all anatomy; None if the image is too dark to tell."""
    step = ceil(max(image.shape) / WORKING_SIDE)
    # An image thinner than the step would shrink to nothing.
    step = min(step, *image.shape)
    small = _shrink(image, step)
    inner = _inside_frames(small)
    anatomy = _find_anatomy(inner.crop(small))
    if anatomy is None:
        return None
    # From the part inside the frames to the reduced image, and from there to pixels of the original.
    return BoundingBox(
        top=(inner.top + anatomy.top) * step,
        bottom=(inner.top + anatomy.bottom) * step,
        left=(inner.left + anatomy.left) * step,
        right=(inner.left + anatomy.right) * step,
    )


def _shrink(image: UInt8[np.ndarray, "h w"], step: int) -> UInt8[np.ndarray, "i j"]:
    """The mean of each `step` x `step` pixels."""
    height, width = image.shape
    rows, columns = height // step, width // step
    # Without the last rows and columns that fill no whole pixel.
    whole = image[: rows * step, : columns * step]
    # Most published images need a step of 3, for which this gives the same values in half of the time.
    if step == 3:
        return cv2.blur(whole, (3, 3))[1::3, 1::3]
    return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)


def _inside_frames(image: UInt8[np.ndarray, "h w"]) -> BoundingBox:
    """What is left when lines of one level, dark or bright, are removed from all four sides."""
    # Repeated, because a frame may lie inside another one.
    height, width = image.shape
    box, before = BoundingBox(0, height, 0, width), None
    while box != before and min(box.shape) > SMALLEST_INSIDE:
        before = box
        inner = box.crop(image)
        height, width = inner.shape
        top, bottom = _flat_ends(inner)
        left, right = _flat_ends(np.ascontiguousarray(inner.T))
        # An image of one level is flat from end to end.
        if top + bottom < height and left + right < width:
            box = BoundingBox(
                top=box.top + top,
                bottom=box.bottom - bottom,
                left=box.left + left,
                right=box.right - right,
            )
    return box


def _flat_ends(image: UInt8[np.ndarray, "h w"]) -> tuple[int, int]:
    """Number of rows at the top and at the bottom with one level each."""
    # Most images have no frame, and the first and the last row show it.
    outer = image[:: len(image) - 1]
    if _rough(outer).all():
        return 0, 0
    rough = _rough(image)
    if not rough.any():
        return 0, 0
    top = rough.argmax()
    bottom = rough[::-1].argmax()
    return int(top), int(bottom)


def _rough(image: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, " h"]:
    """Whether each row has no level that nearly all of its pixels share."""
    width = image.shape[1]
    # The median of a sample; numpy sorts int16 in vectors, but not bytes.
    every = max(1, width // SAMPLE)
    sample = image[:, ::every].astype(np.int16)
    sample.sort(axis=1)
    middle = sample.shape[1] // 2
    median = sample[:, middle, None]
    near = np.abs(image - median) <= FLATNESS
    count = cv2.reduce(near.view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return count[:, 0] < FRAME * width


def _find_anatomy(image: UInt8[np.ndarray, "h w"]) -> BoundingBox | None:
    """Bounding box of the parts above the background, without thin and small ones."""
    sample = image[::4, ::4].astype(np.int16)
    levels = np.sort(sample, axis=None)
    count = len(levels)
    # Percentiles, because a few pixels of text are brighter than any anatomy.
    background = levels[count // 50]
    bright = levels[-1 - count // 100]
    contrast = max(MIN_CONTRAST, MIN_RELATIVE_CONTRAST * (bright - background))
    threshold = background + contrast
    smooth = cv2.GaussianBlur(image, (5, 5), 0, borderType=cv2.BORDER_REPLICATE)
    mask = (smooth > threshold).astype(np.uint8)
    # Opening removes thin lines, closing joins what is broken into pieces.
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    if mask.mean() < MIN_FOREGROUND:
        return None
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    area = np.array([cv2.contourArea(outline) for outline in outlines])
    boxes = np.array([cv2.boundingRect(outline) for outline in outlines])
    large = area >= MIN_AREA * area.max()
    left, top, wide, tall = boxes[large].T
    return BoundingBox(
        top=int(top.min()),
        bottom=int((top + tall).max()),
        left=int(left.min()),
        right=int((left + wide).max()),
    )


def cut(
    image: UInt8[np.ndarray, "h w"],
    box: BoundingBox | None,
    size: int,
    fit: Fit = "pad",
) -> UInt8[np.ndarray, "s s"]:
    """The cropped image as a square of `size` pixels, stretched or padded with black."""
    inner = image if box is None else box.crop(image)
    height, width = inner.shape
    side = max(height, width)
    if fit == "stretch":
        tall, wide = size, size
    else:
        tall = max(1, round(height * size / side))
        wide = max(1, round(width * size / side))
    # Down to half the size, bilinear interpolation misses no pixel, and takes a third of the time.
    much_smaller = 2 * max(tall, wide) < side
    method = cv2.INTER_AREA if much_smaller else cv2.INTER_LINEAR
    resized = cv2.resize(inner, (wide, tall), interpolation=method)
    square = np.zeros((size, size), np.uint8)
    top = (size - tall) // 2
    left = (size - wide) // 2
    square[top : top + tall, left : left + wide] = resized
    return square


class ImagePreparation(BaseModel, frozen=True, extra="forbid"):
    """Preparation of images.

    Attributes:
        image_size: side in pixels.
        fit: "pad" keeps the aspect ratio and pads with black; "stretch" fills the square.
    """

    image_size: int = Field(128, ge=32)
    fit: Fit = "pad"
