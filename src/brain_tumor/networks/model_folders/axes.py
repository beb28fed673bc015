"""Volumes in other axes."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Num
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

Predict = Callable[[Num[np.ndarray, "m x y z"], Float[np.ndarray, "4 4"]], Float[np.ndarray, "k x y z"]]
"""Channels on one grid, and its affine > the probability of each class on it."""

Turn = Callable[[Num[np.ndarray, "m a b c"]], Num[np.ndarray, "m x y z"]]


def reorient(
    image: Num[np.ndarray, "m x y z"], affine: Float[np.ndarray, "4 4"], axes: str
) -> tuple[Num[np.ndarray, "m a b c"], Float[np.ndarray, "4 4"], Turn]:
    """Channels with axes turned and flipped, their affine, and what turns channels back.

    Args:
        axes: directions in which they run, such as `RAS`.
    """
    own, wanted = io_orientation(affine), axcodes2ornt(axes)
    there, back = ornt_transform(own, wanted), ornt_transform(wanted, own)
    return _apply(image, there), affine @ inv_ornt_aff(there, image.shape[1:]), lambda turned: _apply(turned, back)


def _apply(image: Num[np.ndarray, "m x y z"], orientation: np.ndarray) -> Num[np.ndarray, "m a b c"]:
    # nibabel turns the first three axes.
    return np.moveaxis(apply_orientation(np.moveaxis(image, 0, -1), orientation), -1, 0)
