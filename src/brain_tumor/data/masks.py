"""Tumours measured from masks: NIfTI files of a folder, or the labels of prepared slices."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from nibabel.affines import apply_affine, voxel_sizes

from brain_tumor.data.declaration import DataSet
from brain_tumor.data.files import list_files
from brain_tumor.data.nifti_volumes import find_masks, lie_together, name_mask, read_mask, read_volume, write_mask
from brain_tumor.data.shape_features import FEATURES, measure_tumour

logger = logging.getLogger(__name__)

FIELD = (240.0, 240.0, 155.0)
CORNER = (0.0, 239.0, 0.0)
"""Of a scan in the space of BraTS: millimetres it spans to the left, the back and the head, and where its first voxel lies."""

BRATS_CENTRE = (-118.5, 104.0, 76.0)
"""The brain's centre there, in millimetres. BraTS lays every patient over one atlas (SRI24, Rohlfing et al. 2010). x is the mean of the mirror axis
of 104 real slices (deviation 1.0 mm between slices), y and z are those of the brains of three real volumes, which differ by up to 1.3 mm."""

TOLERANCE = 2.0
"""Millimetres by which a resampled mask's field may differ; where voxels are longer, one voxel."""

MOST_BRAIN = 0.6
"""Part of a scan that differs from its background in a skull-stripped one, at most."""

FEWEST_SLICES = 3
"""With which slices make a volume: two lie evenly, however far apart."""

FARTHEST_SLICES = 15.0
"""Millimetres from slice to slice with which slices still make a volume: a tumour of a few centimetres would lie in two of them."""

IMAGE, BRATS, UNKNOWN = "scan", "BraTS space", ""
"""Where a brain's centre was taken from."""

EMPTY = "the mask is empty: there is no tumour to measure"


@dataclass(frozen=True)
class Mask:
    """What was found in a patient's scan, to be written beside it.

    Attributes:
        labels: as in a prepared store, k for the k-th tissue declared; axes L, P, S.
        like: a volume of the patient, whose orientation and geometry the mask gets.
    """

    patient: str
    labels: UInt8[np.ndarray, "h w d"]
    like: Path
    data_set: DataSet

    @property
    def file(self) -> str:
        """Name of its file."""
        return name_mask(self.patient, self.data_set)

    def write(self, path: Path) -> None:
        """Write the NIfTI file."""
        write_mask(path, self.labels, self.like, self.data_set)


def find(folder: Path, data_set: DataSet) -> list[tuple[str, Path, Path | None]]:
    """Patient, mask, and a scan beside it, for each mask below a folder.

    Raises:
        FileNotFoundError: if the folder isn't there or holds no mask.
    """
    remedy = "give the folder of the masks with `--params survival_source=PATH`"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; {remedy}")
    masks = find_masks(list_files(folder), data_set)
    if not masks:
        raise FileNotFoundError(f"{folder} holds no masks named {', '.join(f'*_{ending}.nii.gz' for ending in data_set.mask)}; {remedy}")
    return sorted(masks)


def measure_file(patient: str, mask: Path, scan: Path | None, data_set: DataSet, source: Path) -> pd.DataFrame:
    """One row of the table of features, measured from a NIfTI mask; one that can't be measured says why in `left_out`."""
    try:
        labels, affine = read_mask(mask, data_set)
        centre, centre_from = _centre_of_file(labels.shape, affine, scan)
        row = _row(patient, str(mask.relative_to(source)), labels, affine, centre, centre_from, data_set)
        return row if labels.any() else row.assign(left_out=f"{EMPTY}; mend or remove the mask")
    except ValueError as error:
        return _left_out(patient, str(mask.relative_to(source)), f"{error}; mend or remove the mask")


def measure_slices(patient: str, labels: UInt8[np.ndarray, "n h w"], rows: pd.DataFrame, centre: np.ndarray | None, data_set: DataSet) -> pd.DataFrame:
    """The same, measured from the slices of a prepared store.

    Args:
        labels: of the patient's slices.
        rows: of the store: `slice`, `row_mm`, `column_mm`, `slice_mm`.
        centre: of the brain, as `centre_of_slices` gives it.
    """
    try:
        affine = affine_of_slices(rows)
        row = _row(patient, "", np.moveaxis(labels[np.argsort(rows["slice"].to_numpy())], 0, -1), affine, centre, IMAGE, data_set)
        return row if labels.any() else row.assign(left_out=EMPTY)
    except ValueError as error:
        return _left_out(patient, "", str(error))


def affine_of_slices(rows: pd.DataFrame) -> Float[np.ndarray, "4 4"]:
    """From (row, column, place in the stack) to millimetres; slices that were left out between those there make them thicker.

    Raises:
        ValueError: if the slices don't make a volume.
    """
    numbers = np.sort(rows["slice"].to_numpy().astype(int))
    gaps = np.diff(numbers)
    shown = f"slice{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:6]))}{', ...' * (len(numbers) > 6)}"
    if len(numbers) < FEWEST_SLICES:
        raise ValueError(f"{shown} alone: {FEWEST_SLICES} make a volume; add the slices beside")
    if gaps.min() != gaps.max() or gaps.min() == 0:
        raise ValueError(f"{shown} are not evenly spaced, so they make no volume; add the slices between them")
    row_mm, column_mm, slice_mm = (float(rows[name].iloc[0]) for name in ("row_mm", "column_mm", "slice_mm"))
    if slice_mm * gaps[0] > FARTHEST_SLICES:
        raise ValueError(f"{shown} lie {slice_mm * gaps[0]:g} mm apart, too far to make a volume; add the slices between them")
    affine = np.diag([-row_mm, -column_mm, slice_mm * gaps[0], 1.0])
    affine[2, 3] = slice_mm * numbers[0]
    return affine


def centre_of_slices(brain: Bool[np.ndarray, "n h w"], rows: pd.DataFrame) -> Float[np.ndarray, " 3"] | None:
    """The centre of mass of the brain that the slices show, in the millimetres of their affine."""
    try:
        return _centre(np.moveaxis(brain[np.argsort(rows["slice"].to_numpy())], 0, -1), affine_of_slices(rows))
    except ValueError:
        return None


def _centre_of_file(shape: tuple[int, ...], affine: np.ndarray, scan: Path | None) -> tuple[np.ndarray | None, str]:
    """The scan's own brain where there is a skull-stripped scan, else the atlas's where the mask lies in the space of BraTS."""
    try:
        volume = read_volume(scan) if scan else None
    except ValueError as error:
        logger.warning("the brain's centre is not taken from the scan beside a mask: %s", error)
        volume = None
    if volume and not lie_together(shape, affine, volume[0].shape, volume[1]):
        logger.warning("the brain's centre is not taken from %s, which lies elsewhere than the mask beside it", scan)
        volume = None
    if volume:
        voxels, scan_affine = volume
        shell = np.concatenate([np.take(voxels, side, axis).ravel() for axis in range(3) for side in (0, -1)])
        brain = voxels != np.sort(shell)[shell.size // 2]
        if 0 < brain.mean() < MOST_BRAIN:
            return _centre(brain, scan_affine), IMAGE
    return (np.array(BRATS_CENTRE), BRATS) if _is_in_brats_space(shape, affine) else (None, UNKNOWN)


def _is_in_brats_space(shape: tuple[int, ...], affine: np.ndarray) -> bool:
    spacing = voxel_sizes(affine)
    tolerance = np.maximum(TOLERANCE, spacing)
    straight = np.allclose(affine[:3, :3], np.diag(np.diag(affine[:3, :3])), atol=1e-3)
    spans = (np.abs(np.multiply(shape, spacing) - FIELD) <= tolerance).all()
    return bool(straight and spans and (np.abs(affine[:3, 3] - CORNER) <= tolerance).all())


def _centre(brain: Bool[np.ndarray, "h w d"], affine: np.ndarray) -> Float[np.ndarray, " 3"] | None:
    return apply_affine(affine, np.array(np.nonzero(brain)).mean(1)) if brain.any() else None


def _row(patient: str, file: str, labels: np.ndarray, affine: np.ndarray, centre: np.ndarray | None, centre_from: str, data_set: DataSet) -> pd.DataFrame:
    features = measure_tumour(labels, affine, centre, data_set.targets)
    spacing = " x ".join(f"{step:.4g}" for step in voxel_sizes(affine))
    return pd.DataFrame([{"patient": patient, "file": file, "spacing_mm": spacing, "centre_from": centre_from, "left_out": ""} | features])


def _left_out(patient: str, file: str, reason: str) -> pd.DataFrame:
    row = {"patient": patient, "file": file, "spacing_mm": "", "centre_from": UNKNOWN, "left_out": reason}
    return pd.DataFrame([row | {feature.name: np.nan for feature in FEATURES}])
