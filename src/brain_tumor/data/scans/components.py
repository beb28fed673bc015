"""Connected components of a mask, 26-connected: voxels that share a corner belong together."""

from collections.abc import Mapping

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Bool, Float, Int, UInt8


def label_components(
    inside: Bool[np.ndarray, "a b c"],
    voxel_ml: float,
) -> tuple[Int[np.ndarray, "a b c"], Float[np.ndarray, " n"]]:
    """Component number of each voxel, 0 outside, and the volume of each component in millilitres, 0 for number 0."""
    labelled, _ = scipy.ndimage.label(inside, np.ones((3, 3, 3)))
    voxels = np.bincount(labelled.ravel())
    volumes = voxels * voxel_ml
    volumes[0] = 0
    return labelled, volumes


def remove_small_components(
    labels: UInt8[np.ndarray, "a b c"],
    voxel_ml: float,
    min_component_ml: float,
    kept_with_ml: Mapping[int, float] | None = None,
) -> UInt8[np.ndarray, "a b c"]:
    """Labels without the components of tumour below a volume; the largest component always stays.

    Args:
        labels: 0 is background; a component may hold several labels.
        voxel_ml: millilitres of a voxel.
        kept_with_ml: of some labels the volume that makes a small component stay.
    """
    if not labels.any():
        return labels
    labelled, volumes = label_components(labels > 0, voxel_ml)
    # No threshold is above the largest component, so that it always stays.
    threshold = min(min_component_ml, volumes.max())
    kept = volumes >= threshold
    for label, least in (kept_with_ml or {}).items():
        own = np.bincount(labelled[labels == label], minlength=len(volumes)) * voxel_ml
        kept |= own >= least
    # Background has volume 0, which a threshold of 0 would keep.
    kept[0] = False
    remaining = np.where(kept[labelled], labels, 0)
    return remaining.astype(labels.dtype)


def replace_small_volume(
    labels: UInt8[np.ndarray, "a b c"],
    voxel_ml: float,
    tissue: int,
    min_ml: float,
    other: int,
) -> UInt8[np.ndarray, "a b c"]:
    """Labels in which a tissue becomes another one where its total volume is below a minimum."""
    inside = labels == tissue
    volume_ml = inside.sum() * voxel_ml
    if volume_ml >= min_ml:
        return labels
    return np.where(inside, np.uint8(other), labels)
