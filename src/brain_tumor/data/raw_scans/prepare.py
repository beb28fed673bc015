"""A patient's raw volumes into the position of BraTS, and a mask back onto the grid of one of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from brain_tumor.data.raw_scans.atlas import AFFINE, SHAPE, load_atlas
from brain_tumor.data.raw_scans.brain import (
    LEAST_ML,
    PREPARED,
    SKULL,
    STRIPPED,
    extract_brain,
    find_state,
    take_foreground,
)
from brain_tumor.data.raw_scans.convert import VolumeFile
from brain_tumor.data.raw_scans.grids import Matrix, enclose, measure_ml, resample
from brain_tumor.data.raw_scans.registration import Box, Registration, register
from brain_tumor.data.scans.nifti_volumes import read_volume

MARGIN = 10.0
"""Millimetres around the head in which it may turn."""


def open_box(file: Path, grid: tuple[Sequence[int], Matrix] | None = None, transform: Matrix | None = None) -> Box:
    """A volume at 1 mm along right, anterior, superior.

    Args:
        grid: shape and affine; None: around the volume.
        transform: from the grid to the volume, in millimetres.
    """
    voxels, affine = read_volume(file)
    shape, matrix = grid or enclose(voxels.shape, affine, 1.0)
    return Box(resample(voxels, affine, shape, matrix, transform), matrix)


def find_states(files: Mapping[str, Path]) -> str:
    """What the scan of a patient needs: what the neediest of its volumes needs.

    Prepared volumes that don't lie together need registration.
    """
    states, places = [], []
    for file in files.values():
        voxels, affine = read_volume(file)
        states.append(find_state(voxels, affine))
        places.append(affine)
    if SKULL in states:
        return SKULL
    together = all(np.allclose(place, places[0], atol=0.5) for place in places)
    return PREPARED if set(states) == {PREPARED} and together else STRIPPED


def register_modality(reference: Path, file: Path) -> Registration:
    """How a modality lies on the reference; as the header has it where no other place is better."""
    found = register(open_box(reference), open_box(file))
    if found.after > found.before:
        return found
    return Registration(np.eye(4), found.before, found.before)


def find_brain(
    files: Mapping[str, Path],
    transforms: Mapping[str, Matrix],
    state: str,
    reference: str,
    modality: str,
    own: Path | None = None,
) -> VolumeFile:
    """The brain at 1 mm in the place of the reference.

    Args:
        transforms: modality > from millimetres of the reference to those of the modality.
        modality: that the brain is extracted from.
        own: a brain mask of the user, on any grid in the place of that modality; every value but 0 is brain. It takes
            the place of an extracted one.

    Raises:
        ValueError: if no brain is found, or that mask hardly marks anything where the scan is.
    """
    voxels, affine = read_volume(files[reference])
    shape, grid = enclose(voxels.shape, affine, 1.0, MARGIN)
    if state == SKULL and own is not None:
        marked, own_affine = read_volume(own)
        mask = resample((marked != 0).astype(np.float32), own_affine, shape, grid, transforms[modality]) >= 0.5
        _require_brain(own, measure_ml(mask, grid))
    elif state == SKULL:
        head = open_box(files[modality], (shape, grid), transforms[modality])
        mask = extract_brain(head)
    else:
        brain = take_foreground(voxels).astype(np.float32)
        mask = resample(brain, affine, shape, grid) >= 0.5
    return VolumeFile("", mask.astype(np.uint8), grid)


def find_own_mask(folder: str | None, patient: str, volume: str) -> Path | None:
    """The brain mask that the user has of a patient; None without one.

    Args:
        folder: of all masks.
        volume: file name of the modality that masks are made of.

    Raises:
        FileNotFoundError: if the folder isn't there.
    """
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"data_raw_scans.brain_masks is {folder}, which is no folder; give one, or null")
    # As HD-BET names them.
    names = f"{volume.removesuffix('.nii.gz')}_bet.nii.gz", f"{patient}.nii.gz"
    return next((file for name in names if (file := Path(folder, name)).is_file()), None)


def _require_brain(mask: Path, volume_ml: float) -> None:
    if volume_ml < LEAST_ML:
        remedy = "give a brain mask on the grid of the scan, or remove it"
        raise ValueError(f"{mask.name} marks {volume_ml:.0f} ml where the scan is; {remedy}")


def register_to_atlas(reference: Path, brain: Path, atlas: str | None, *, affine: bool) -> Registration:
    """How the brain of the reference lies on the atlas: from millimetres of the atlas to those of the reference."""
    mask = open_mask(brain)
    head = open_box(reference, (mask.voxels.shape, mask.grid))
    return register(load_atlas(atlas), Box(head.voxels * mask.voxels, mask.grid), affine=affine)


def open_mask(file: Path) -> Box:
    """A brain mask that `find_brain` gave, 0 and 1."""
    voxels, affine = read_volume(file)
    # Turned to L, P, S when read: on a grid along right, anterior, superior again.
    shape, grid = enclose(voxels.shape, affine, 1.0)
    return Box(resample(voxels, affine, shape, grid, order=0), grid)


def place_brain(brain: Path, to_atlas: Matrix) -> Bool[np.ndarray, "h w d"]:
    """The brain on the grid of BraTS."""
    voxels, affine = read_volume(brain)
    return resample(voxels, affine, SHAPE, AFFINE, to_atlas) >= 0.5


def place_modality(file: Path, transform: Matrix) -> np.ndarray:
    """A modality on the grid of BraTS, the skull included.

    Args:
        transform: from the position of BraTS to the modality, in millimetres.
    """
    voxels, affine = read_volume(file)
    return resample(voxels, affine, SHAPE, AFFINE, transform)


def return_labels(
    labels: UInt8[np.ndarray, "h w d"],
    affine: Matrix,
    shape: Sequence[int],
    grid: Matrix,
    transform: Matrix,
    *,
    nearest: bool,
) -> UInt8[np.ndarray, "x y z"]:
    """Labels on the grid of a raw volume.

    Args:
        affine: from voxels of the labels to millimetres.
        shape: of the raw volume.
        grid: of the raw volume, from voxels to millimetres.
        transform: from its millimetres to those of the labels.
        nearest: the nearest voxel; else each tissue is interpolated, and the likeliest taken.
    """
    if nearest:
        return resample(labels, affine, shape, grid, transform, order=0).astype(np.uint8)
    returned = np.zeros(tuple(shape), np.uint8)
    # Background first: a tissue needs more than it and than the tissues before.
    best = 1.0 - resample((labels > 0).astype(np.float32), affine, shape, grid, transform)
    for k in range(1, int(labels.max(initial=0)) + 1):
        own = resample((labels == k).astype(np.float32), affine, shape, grid, transform)
        better = own > best
        returned[better] = k
        best[better] = own[better]
    return returned
