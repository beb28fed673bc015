"""Scans and masks as a viewer shows them: cut to the brain, one byte a voxel, as compressed NIfTI."""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Num, UInt8

from brain_tumor.data.scans.preparation import find_brain

MARGIN = 4
"""Voxels around brain and masks that are kept."""

MOST_VOXELS = 20_000_000
"""Voxels of all modalities together; a scan with more is shown at every second voxel of an axis, or fewer."""

DARKEST, BRIGHTEST = 0.2, 99.8
"""Percentiles of the brain's intensities that are shown as 1 and as 255; 0 is outside of the brain."""

LEVEL = 6
"""Of compression: 9 takes twice the time for 1 % less."""


@dataclass(frozen=True)
class DisplayVolumes:
    """The volumes of one patient on one grid. Axes L, P, S.

    Attributes:
        scans: modality > compressed NIfTI.
        masks: what a mask is > compressed NIfTI; k is the k-th tissue.
        affine: from indices to millimetres.
        shape: voxels along each axis.
        start: index in the whole scan of the first voxel along each axis.
        step: voxels of the whole scan between two that are kept, along each axis.
        whole: voxels of the whole scan.
        centre: indices of the voxel that is shown first: in the slice with most tumour, or the middle of the brain.
    """

    scans: dict[str, bytes]
    masks: dict[str, bytes]
    affine: Float[np.ndarray, "4 4"]
    shape: tuple[int, int, int]
    start: tuple[int, int, int]
    step: tuple[int, int, int]
    whole: tuple[int, int, int]
    centre: tuple[int, int, int]


def prepare_display(
    image: Num[np.ndarray, "m h w d"],
    masks: Mapping[str, UInt8[np.ndarray, "h w d"]],
    affine: Float[np.ndarray, "4 4"],
    modalities: Sequence[str],
) -> DisplayVolumes:
    """Cut a scan and its masks to the brain, and write them as bytes.

    Args:
        image: in the order of `modalities`, axes L, P, S.
        masks: what each is, such as "network" > labels; 0 is background.
        affine: from indices to millimetres.
    """
    brain = np.stack([find_brain(slice_) for slice_ in np.moveaxis(image, -1, 0)], axis=-1)
    marked = np.zeros_like(brain)
    for mask in masks.values():
        marked |= mask > 0
    box = _find_box(brain | marked)
    step = _choose_steps([part.stop - part.start for part in box], len(modalities))
    part = tuple(slice(side.start, side.stop, by) for side, by in zip(box, step, strict=True))
    start = tuple(side.start for side in box)
    brain = brain[part]
    own_affine = affine @ nib.affines.from_matvec(np.diag(step), start)
    scans = {
        name: _write(_to_bytes(volume[part], brain), own_affine) for name, volume in zip(modalities, image, strict=True)
    }
    return DisplayVolumes(
        scans,
        {name: _write(mask[part], own_affine) for name, mask in masks.items()},
        own_affine,
        brain.shape,
        start,
        step,
        image.shape[1:],
        _choose_centre(marked[part], brain),
    )


def _find_box(kept: Bool[np.ndarray, "h w d"]) -> list[slice]:
    """What is kept with its margin, along each axis; everything where nothing is kept."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(kept.any(others))
        side = kept.shape[axis]
        first, last = (int(places[0]), int(places[-1])) if places.size else (0, side - 1)
        box.append(slice(max(0, first - MARGIN), min(side, last + 1 + MARGIN)))
    return box


def _choose_steps(shape: Sequence[int], modalities: int) -> tuple[int, int, int]:
    """The finest axis is thinned first, until the voxels are few enough."""
    step = [1, 1, 1]
    while modalities * prod(ceil(side / by) for side, by in zip(shape, step, strict=True)) > MOST_VOXELS:
        kept = [side / by for side, by in zip(shape, step, strict=True)]
        step[int(np.argmax(kept))] += 1
    return step[0], step[1], step[2]


def _to_bytes(volume: Num[np.ndarray, "h w d"], brain: Bool[np.ndarray, "h w d"]) -> UInt8[np.ndarray, "h w d"]:
    """Intensities of the brain as 1 to 255; 0 elsewhere."""
    shown = np.zeros(volume.shape, np.uint8)
    values = volume[brain].astype(np.float32)
    if not values.size:
        return shown
    low, high = np.percentile(values, [DARKEST, BRIGHTEST])
    scaled = (values - low) / max(high - low, np.finfo(np.float32).tiny)
    shown[brain] = 1 + np.rint(254 * scaled.clip(0, 1))
    return shown


def _choose_centre(marked: Bool[np.ndarray, "h w d"], brain: Bool[np.ndarray, "h w d"]) -> tuple[int, int, int]:
    """The centre of the largest slice of the tumour, or the middle of the brain."""
    shown = marked if marked.any() else brain
    if not shown.any():
        return tuple(side // 2 for side in shown.shape)
    depth = int(shown.sum((0, 1)).argmax())
    row, column = np.argwhere(shown[..., depth]).mean(0).round().astype(int).tolist()
    return row, column, depth


def _write(voxels: UInt8[np.ndarray, "h w d"], affine: Float[np.ndarray, "4 4"]) -> bytes:
    """Compressed NIfTI; the same voxels always give the same bytes."""
    image = nib.Nifti1Image(voxels, affine)
    return gzip.compress(image.to_bytes(), LEVEL, mtime=0)
