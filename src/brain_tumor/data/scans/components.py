"""Connected pieces of a mask: voxels that touch, at corners too."""

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float, Int, UInt8


def label_pieces(
    inside: Bool[np.ndarray, "a b c"], voxel_ml: float
) -> tuple[Int[np.ndarray, "a b c"], Float[np.ndarray, " n"]]:
    """The number of the piece that each voxel belongs to, 0 outside; and the millilitres of each piece, none for 0."""
    labelled, _ = scipy.ndimage.label(inside, np.ones((3, 3, 3)))
    volumes = np.bincount(labelled.ravel()) * voxel_ml
    volumes[0] = 0
    return labelled, volumes


def drop_small(labels: UInt8[np.ndarray, "a b c"], voxel_ml: float, smallest_ml: float) -> UInt8[np.ndarray, "a b c"]:
    """The labels without the pieces of tumour below a volume; the largest piece stays, however small.

    Args:
        labels: 0 background; a piece may have several labels.
        voxel_ml: millilitres of a voxel.
    """
    if not labels.any():
        return labels
    labelled, volumes = label_pieces(labels > 0, voxel_ml)
    kept = volumes >= min(smallest_ml, volumes.max())
    kept[0] = False
    return np.where(kept[labelled], labels, 0).astype(labels.dtype)


def replace_little(
    labels: UInt8[np.ndarray, "a b c"], voxel_ml: float, tissue: int, least_ml: float, other: int
) -> UInt8[np.ndarray, "a b c"]:
    """The labels with one tissue taken for another if there is less than a volume of it in all."""
    found = labels == tissue
    return np.where(found, np.uint8(other), labels) if found.sum() * voxel_ml < least_ml else labels
