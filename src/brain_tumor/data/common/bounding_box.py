"""Parts of an image that are looked at instead of the whole."""

from math import ceil
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool


class BoundingBox(NamedTuple):
    """Rows and columns of an image, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def from_mask(cls, mask: Bool[np.ndarray, "h w"]) -> "BoundingBox":
        """The smallest that holds all of a mask; without rows and columns if there is nothing."""
        rows = np.flatnonzero(mask.any(axis=1))
        columns = np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return cls(0, 0, 0, 0)
        return cls(
            top=int(rows[0]),
            bottom=int(rows[-1]) + 1,
            left=int(columns[0]),
            right=int(columns[-1]) + 1,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.bottom - self.top, self.right - self.left

    def crop(self, image: np.ndarray) -> np.ndarray:
        """That part of an image, or of each of many: of the last two axes."""
        return image[..., self.top : self.bottom, self.left : self.right]

    def uncrop(self, part: np.ndarray, size: int, fill: float = 0) -> np.ndarray:
        """Where it was taken from, in squares of that size; `fill` is around it."""
        whole = np.full((*part.shape[:-2], size, size), fill, part.dtype)
        # `crop` gives a view: what is written to it is written to the whole.
        self.crop(whole)[...] = part
        return whole

    def pad_to_multiple(self, size: int, least: tuple[int, int] = (0, 0), multiple: int = 16) -> "BoundingBox":
        """The box enlarged to sides that are multiples of a number, centred as far as a square image of `size` allows.

        Args:
            least: rows and columns, at least.
        """
        ends = []
        for start, end, needed in ((self.top, self.bottom, least[0]), (self.left, self.right, least[1])):
            wanted = max(end - start, needed, 1)
            side = min(size, ceil(wanted / multiple) * multiple)
            centred = (start + end - side) // 2
            # Near a border the box is shifted back into the image.
            first = min(max(0, centred), size - side)
            ends += [first, first + side]
        return BoundingBox(*ends)
