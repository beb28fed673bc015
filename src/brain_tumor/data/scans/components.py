"""Connected pieces of a mask: voxels that touch, at corners too."""

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float, Int, UInt8


def label_components(
    inside: Bool[np.ndarray, "a b c"], voxel_ml: float
) -> tuple[Int[np.ndarray, "a b c"], Float[np.ndarray, " n"]]:
    """The number of the piece that each voxel belongs to, 0 outside; and the millilitres of each piece, none for 0."""
    labelled, _ = scipy.ndimage.label(inside, np.ones((3, 3, 3)))
    volumes = np.bincount(labelled.ravel()) * voxel_ml
    volumes[0] = 0
    return labelled, volumes


def remove_small_components(
    labels: UInt8[np.ndarray, "a b c"], voxel_ml: float, min_component_ml: float
) -> UInt8[np.ndarray, "a b c"]:
    """The labels without the pieces of tumour below a volume; the largest piece stays, however small.

    Args:
        labels: 0 background; a piece may have several labels.
        voxel_ml: millilitres of a voxel.
    """
    if not labels.any():
        return labels
    labelled, volumes = label_components(labels > 0, voxel_ml)
    kept = volumes >= min(min_component_ml, volumes.max())
    kept[0] = False
    return np.where(kept[labelled], labels, 0).astype(labels.dtype)


def replace_small_volume(
    labels: UInt8[np.ndarray, "a b c"], voxel_ml: float, tissue: int, min_ml: float, other: int
) -> UInt8[np.ndarray, "a b c"]:
    """The labels with one tissue taken for another if there is less than a volume of it in all."""
    found = labels == tissue
    return np.where(found, np.uint8(other), labels) if found.sum() * voxel_ml < min_ml else labels
