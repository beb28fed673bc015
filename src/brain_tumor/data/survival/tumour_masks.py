"""Tumour features measured from masks: NIfTI files of a folder, or the labels of prepared slices."""

import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from nibabel.affines import apply_affine, voxel_sizes

from brain_tumor.data.scans.data_set import MASK, DataSet, Tissue
from brain_tumor.data.scans.nifti_masks import read_mask, write_mask, write_new_mask
from brain_tumor.data.scans.nifti_volumes import lie_together, read_volume
from brain_tumor.data.scans.patient_files import PatientFiles
from brain_tumor.data.scans.plausibility import MOST_BRAIN, MOST_TUMOUR_ML, explain_size
from brain_tumor.data.scans.slice_spacing import FARTHEST_MM, FEWEST_SLICES, find_step
from brain_tumor.data.survival.shape_features import FEATURES, measure_tumour

logger = logging.getLogger(__name__)

FIELD = (240.0, 240.0, 155.0)
"""Extent of a scan in BraTS space in millimetres, to the left, the back and the head."""

CORNER = (0.0, 239.0, 0.0)
"""Position of its first voxel, in millimetres."""

BRATS_CENTRE = (-118.5, 104.0, 76.0)
"""The brain's centre in BraTS space, in millimetres.

BraTS registers every patient to one atlas (SRI24, Rohlfing et al. 2010). x is the mean mirror axis of 104 real slices
(standard deviation 1.0 mm), y and z are those of the brains of three real volumes, which differ by up to 1.3 mm.
"""

TOLERANCE = 2.0
"""Largest difference in extent of a resampled mask in BraTS space: millimetres, or one voxel if that is more."""

IMAGE, BRATS, UNKNOWN = "scan", "BraTS space", ""
"""Origins of a brain's centre."""

SHOWN = 6
"""Slices that a message names."""

EMPTY = "the mask is empty: there is no tumour to measure"


@dataclass(frozen=True)
class Mask:
    """A predicted mask of one patient, to be written as a NIfTI file.

    Attributes:
        file: name of the NIfTI file.
        labels: k for the k-th tissue, as in a prepared store; axes L, P, S.
        tissues: in the order of the labels; their first labels are written.
        affine: from indices of `labels` to millimetres.
        like: NIfTI volume of the patient, whose orientation and header the mask gets; None without one.
        confidence: how sure the network is, written into the header.
    """

    patient: str
    file: str
    labels: UInt8[np.ndarray, "h w d"]
    tissues: tuple[Tissue, ...]
    affine: Float[np.ndarray, "4 4"]
    like: Path | None = None
    confidence: float | None = None

    def write(self, path: Path) -> None:
        """Write the NIfTI file."""
        if self.like:
            write_mask(path, self.labels, self.like, self.tissues, confidence=self.confidence)
        else:
            write_new_mask(path, self.labels, self.affine, self.tissues, self.confidence)


def measure_file(found: PatientFiles, data_set: DataSet, source: Path) -> pd.DataFrame:
    """A row of FEATURES measured from a NIfTI mask, or with a reason in `excluded`."""
    mask = found.volumes[MASK]
    # Any modality shows where the brain is.
    modalities = [name for name in data_set.modality_names if name in found.volumes]
    scan = found.volumes[modalities[0]] if modalities else None
    patient = found.patient
    file = str(mask.relative_to(source))
    if MASK in found.conflicts:
        return _excluded(patient, file, found.conflicts[MASK])
    try:
        labels, affine = read_mask(mask, found.find_tissues(data_set))
        brain = _read_brain(labels.shape, affine, scan) if scan else None
        centre, centre_from = _find_centre(labels.shape, affine, brain)
        row = _row(patient, file, labels, affine, centre, centre_from, data_set)
    except ValueError as error:
        return _excluded(patient, file, str(error))
    if not labels.any():
        return _excluded(patient, file, f"{EMPTY}; check or remove it")
    problem = _explain_size(labels, affine, brain)
    return _excluded(patient, file, problem) if problem else row


def _explain_size(
    labels: UInt8[np.ndarray, "h w d"],
    affine: np.ndarray,
    brain: tuple[np.ndarray, np.ndarray] | None,
) -> str:
    """Reason why a mask is too large to be a tumour; empty without one."""
    tumour_ml = _volume_ml(labels, affine)
    if brain:
        brain_ml = _volume_ml(*brain)
        return explain_size(tumour_ml, brain_ml)
    # Without a scan only the size itself can tell a brain mask.
    if tumour_ml > MOST_TUMOUR_ML:
        return (
            f"the mask has {tumour_ml:,.0f} ml, as much as a brain: a brain mask, or a label that means "
            "something else; check it on the scan"
        )
    return ""


def _volume_ml(voxels: np.ndarray, affine: np.ndarray) -> float:
    """Millilitres of the voxels that aren't 0."""
    return np.count_nonzero(voxels) * np.prod(voxel_sizes(affine)) / 1000


def measure_slices(
    patient: str,
    labels: UInt8[np.ndarray, "n h w"],
    rows: pd.DataFrame,
    centre: np.ndarray | None,
    data_set: DataSet,
) -> pd.DataFrame:
    """A row of FEATURES measured from the slices of a prepared store, or with a reason in `excluded`.

    Args:
        labels: of the patient's slices.
        rows: of the store: `slice`, `row_mm`, `column_mm`, `slice_mm`.
        centre: of the brain, as `centre_of_slices` gives it.
    """
    try:
        affine = affine_of_slices(rows)
        volume = _stack(labels, rows)
        row = _row(patient, "", volume, affine, centre, IMAGE, data_set)
        return row if labels.any() else row.assign(excluded=EMPTY)
    except ValueError as error:
        return _excluded(patient, "", str(error))


def _stack(slices: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Slices as a volume, in the order of their numbers along the last axis."""
    order = np.argsort(rows["slice"].to_numpy())
    return np.moveaxis(slices[order], 0, -1)


def affine_of_slices(rows: pd.DataFrame) -> Float[np.ndarray, "4 4"]:
    """Affine from (row, column, index in the stack) to millimetres; evenly spaced slices fill the gaps between them.

    Raises:
        ValueError: if the slices don't make a volume.
    """
    numbers = np.sort(rows["slice"].to_numpy().astype(int))
    # All slices of a patient have the spacing of their scan.
    spacing = rows[["row_mm", "column_mm", "slice_mm"]].iloc[0]
    row_mm, column_mm, slice_mm = spacing.astype(float).tolist()
    gaps = np.diff(numbers)
    shown = _name_slices(numbers)
    if len(numbers) < FEWEST_SLICES:
        raise ValueError(f"{shown} alone: {FEWEST_SLICES} make a volume; add the slices beside")
    if gaps.min() != gaps.max() or gaps.min() == 0:
        raise ValueError(f"{shown} are not evenly spaced, so they make no volume; add the slices between them")
    step = find_step(numbers, slice_mm)
    if step is None:
        raise ValueError(
            f"{shown} lie {slice_mm * gaps[0]:g} mm apart, more than {FARTHEST_MM:g}: they make no volume; "
            "add the slices between them"
        )
    # Rows run to the left, columns to the back: both against the axes of NIfTI.
    affine = np.diag([-row_mm, -column_mm, slice_mm * step, 1.0])
    affine[2, 3] = slice_mm * numbers[0]
    return affine


def _name_slices(numbers: np.ndarray) -> str:
    """The first of some slices, for a message, such as `slices 10, 20, 30`."""
    plural = "s" if len(numbers) > 1 else ""
    listed = ", ".join(map(str, numbers[:SHOWN]))
    more = ", ..." if len(numbers) > SHOWN else ""
    return f"slice{plural} {listed}{more}"


def centre_of_slices(
    brain: Bool[np.ndarray, "n h w"],
    rows: pd.DataFrame,
) -> Float[np.ndarray, " 3"] | None:
    """Centre of mass of the brain in millimetres, by `affine_of_slices`; None if the slices make no volume."""
    try:
        return _centre(_stack(brain, rows), affine_of_slices(rows))
    except ValueError:
        return None


def _read_brain(
    shape: tuple[int, ...],
    affine: np.ndarray,
    scan: Path,
) -> tuple[Bool[np.ndarray, "h w d"], Float[np.ndarray, "4 4"]] | None:
    """Brain mask of the scan beside a mask, and its affine; None unless it is skull-stripped and in the same space."""
    try:
        voxels, scan_affine = read_volume(scan)
    except ValueError as error:
        logger.warning("the brain's centre is not taken from the scan beside a mask: %s", error)
        return None
    if not lie_together(shape, affine, voxels.shape, scan_affine):
        logger.warning("the brain's centre is not taken from %s, which lies elsewhere than the mask beside it", scan)
        return None
    sides = product(range(3), (0, -1))
    faces = [np.take(voxels, side, axis).ravel() for axis, side in sides]
    shell = np.concatenate(faces)
    # The background is the median of the six faces of the volume.
    background = np.sort(shell)[shell.size // 2]
    brain = voxels != background
    stripped = 0 < brain.mean() < MOST_BRAIN
    return (brain, scan_affine) if stripped else None


def _find_centre(
    shape: tuple[int, ...],
    affine: np.ndarray,
    brain: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[np.ndarray | None, str]:
    """Centre of the scan's brain, else that of the atlas for a mask in BraTS space, and its origin."""
    if brain:
        return _centre(*brain), IMAGE
    if _is_in_brats_space(shape, affine):
        return np.array(BRATS_CENTRE), BRATS
    return None, UNKNOWN


def _is_in_brats_space(shape: tuple[int, ...], affine: np.ndarray) -> bool:
    spacing = voxel_sizes(affine)
    tolerance = np.maximum(TOLERANCE, spacing)
    axes = affine[:3, :3]
    corner = affine[:3, 3]
    straight = np.allclose(axes, np.diag(np.diag(axes)), atol=1e-3)
    # By extent, not by shape: a resampled mask is in the same space.
    extent = np.multiply(shape, spacing)
    spans = (np.abs(extent - FIELD) <= tolerance).all()
    starts = (np.abs(corner - CORNER) <= tolerance).all()
    return bool(straight and spans and starts)


def _centre(brain: Bool[np.ndarray, "h w d"], affine: np.ndarray) -> Float[np.ndarray, " 3"] | None:
    if not brain.any():
        return None
    indices = np.array(np.nonzero(brain))
    return apply_affine(affine, indices.mean(1))


def _row(
    patient: str,
    file: str,
    labels: np.ndarray,
    affine: np.ndarray,
    centre: np.ndarray | None,
    centre_from: str,
    data_set: DataSet,
) -> pd.DataFrame:
    features = measure_tumour(labels, affine, centre, data_set.targets)
    spacing = " x ".join(f"{step:.4g}" for step in voxel_sizes(affine))
    row = {
        "patient": patient,
        "file": file,
        "spacing_mm": spacing,
        "centre_from": centre_from,
        "excluded": "",
    }
    return pd.DataFrame([row | features])


def _excluded(patient: str, file: str, reason: str) -> pd.DataFrame:
    row = {
        "patient": patient,
        "file": file,
        "spacing_mm": "",
        "centre_from": UNKNOWN,
        "excluded": reason,
    }
    undefined = {feature.name: np.nan for feature in FEATURES}
    return pd.DataFrame([row | undefined])
