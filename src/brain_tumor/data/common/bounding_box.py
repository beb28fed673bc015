"""Parts of an image that are looked at instead of the whole."""

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
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        return (
            cls(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
            if rows.size
            else cls(0, 0, 0, 0)
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
        self.crop(whole)[...] = part
        return whole

    def pad_to_multiple(self, size: int, least: tuple[int, int] = (0, 0), multiple: int = 16) -> "BoundingBox":
        """The box enlarged to sides that are multiples of a number, centred as far as a square image of `size` allows.

        Args:
            least: rows and columns, at least.
        """
        ends = []
        for start, end, needed in ((self.top, self.bottom, least[0]), (self.left, self.right, least[1])):
            side = min(size, -(-max(end - start, needed, 1) // multiple) * multiple)
            first = min(max(0, (start + end - side) // 2), size - side)
            ends += [first, first + side]
        return BoundingBox(*ends)
