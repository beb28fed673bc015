"""Parts of an image that are looked at instead of the whole."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float16

from brain_tumor.data.store import Store


class Box(NamedTuple):
    """Rows and columns of an image, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, mask: Bool[np.ndarray, "h w"]) -> "Box":
        """The smallest that holds all of a mask; without rows and columns if there is nothing."""
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        return cls(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1) if rows.size else cls(0, 0, 0, 0)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.bottom - self.top, self.right - self.left

    def of(self, image: np.ndarray) -> np.ndarray:
        """That part of an image, or of each of many: of the last two axes."""
        return image[..., self.top : self.bottom, self.left : self.right]

    def back(self, part: np.ndarray, size: int) -> np.ndarray:
        """Where it was taken from, in squares of that size which are 0 elsewhere."""
        whole = np.zeros((*part.shape[:-2], size, size), part.dtype)
        self.of(whole)[...] = part
        return whole

    def grow(self, size: int, least: tuple[int, int] = (0, 0), multiple: int = 16) -> "Box":
        """Of sides that are multiples of a number, with this in the middle as far as a square image of that size allows.

        Args:
            least: rows and columns, at least.
        """
        ends = []
        for start, end, needed in ((self.top, self.bottom, least[0]), (self.left, self.right, least[1])):
            side = min(size, -(-max(end - start, needed, 1) // multiple) * multiple)
            first = min(max(0, (start + end - side) // 2), size - side)
            ends += [first, first + side]
        return Box(*ends)


BRAIN = tuple(f"brain_{side}" for side in Box._fields)
"""Columns of a store of slices: the box around the brain of each."""


def locate_brain(image: Float16[np.ndarray, "m h w"]) -> dict[str, np.int16]:
    """Those columns of a prepared slice, which is 0 outside its brain."""
    return {name: np.int16(end) for name, end in zip(BRAIN, Box.around(np.any(image != 0, axis=0)), strict=True)}


def find_window(store: Store) -> Box:
    """The part of each image that networks see: of one size and place for all, it holds every brain. All of it if the store doesn't say where brains are."""
    shapes = store.shapes
    height, width = shapes["image"][-2:]
    top, bottom, left, right = store.read_columns(*BRAIN) if set(BRAIN) <= set(shapes) else (np.zeros(0, int),) * 4
    seen = bottom > top
    if not seen.any():
        return Box(0, height, 0, width)
    return Box(int(top[seen].min()), int(bottom.max()), int(left[seen].min()), int(right.max())).grow(height)
