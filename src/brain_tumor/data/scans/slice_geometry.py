"""The geometry of the slices that a network was trained on, and how a scan of another spacing is brought to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Float

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.scans.brain_crop import crop_shape
from brain_tumor.data.scans.preparation import ROUNDING, resize_weights

BRATS_FIELD_MM = 240.0
"""Field of view of a BraTS slice: 240 pixels of 1 mm."""

MULTIPLE = 16
"""Sides of images are multiples of this: the U-Nets halve them four times."""


@dataclass(frozen=True)
class SliceGeometry:
    """Sizes of a network's training slices.

    Attributes:
        size: side in pixels.
        pixel_mm: millimetres of a pixel, (row, column).
        window: rows and columns that the network saw around the brain.
    """

    size: int
    pixel_mm: tuple[float, float]
    window: tuple[int, int]

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "SliceGeometry":
        """That of a network, from the description in its file.

        Files of earlier versions don't have the pixel: their slices are taken to span 240 mm, as those of BraTS.
        """
        size = about["slice_size"]
        row_mm, column_mm = about.get("pixel_mm") or [BRATS_FIELD_MM / size] * 2
        return cls(size, (row_mm, column_mm), crop_shape(about))

    def resampling(self, shape: tuple[int, int], spacing: tuple[float, ...]) -> "Resampling":
        """How slices of a scan are brought to these pixels.

        Args:
            shape: rows and columns of the scan's slices.
            spacing: millimetres of the scan, (row, column, ...).
        """
        row_mm, column_mm = self.pixel_mm
        scale = row_mm / spacing[0], column_mm / spacing[1]
        # A larger field of view than in training is kept: networks take any multiple of 16.
        needed = max(shape[0] / scale[0], shape[1] / scale[1]) - ROUNDING
        side = max(self.size, ceil(needed / MULTIPLE) * MULTIPLE)
        return Resampling(shape, side, scale)


@dataclass(frozen=True)
class Resampling:
    """Slices of a scan in squares of the network's pixels, both around the same centre.

    Attributes:
        shape: rows and columns of the scan's slices.
        side: of the squares, in pixels.
        scale: pixels of the scan to a pixel of the network, (row, column).
    """

    shape: tuple[int, int]
    side: int
    scale: tuple[float, float]

    def weights_there(self) -> tuple[Float[np.ndarray, "s h"], Float[np.ndarray, "s w"]]:
        """Matrices that bring the rows and the columns of a slice to the square."""
        rows, columns = (
            resize_weights(old, self.side, scale) for old, scale in zip(self.shape, self.scale, strict=True)
        )
        return rows, columns

    def weights_back(self) -> tuple[Float[np.ndarray, "h s"], Float[np.ndarray, "w s"]]:
        """Matrices that bring the rows and the columns of a square to the slice."""
        rows, columns = (
            resize_weights(self.side, old, 1 / scale) for old, scale in zip(self.shape, self.scale, strict=True)
        )
        return rows, columns

    def enclose(self, box: BoundingBox) -> BoundingBox:
        """A bounding box of the slice in the square, with a margin of one pixel."""
        ends = []
        sides = ((box.top, box.bottom), (box.left, box.right))
        for (start, end), old, scale in zip(sides, self.shape, self.scale, strict=True):
            first = (start - old / 2) / scale + self.side / 2
            last = (end - old / 2) / scale + self.side / 2
            # The margin is what resizing blurs the brain into.
            ends += [int(np.floor(first)) - 1, int(np.ceil(last)) + 1]
        return BoundingBox(*ends)
