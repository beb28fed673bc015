"""Tumours measured from masks: NIfTI files of a folder, or the labels of prepared slices."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from nibabel.affines import apply_affine, voxel_sizes

from brain_tumor.data.scans.data_set import MASK, DataSet, Tissue
from brain_tumor.data.scans.nifti import lie_together, read_mask, read_volume, write_mask, write_new_mask
from brain_tumor.data.scans.patient_files import PatientFiles
from brain_tumor.data.scans.plausibility import MOST_BRAIN, MOST_TUMOUR_ML, explain_size
from brain_tumor.data.scans.slice_spacing import FARTHEST_MM, FEWEST_SLICES, find_step
from brain_tumor.data.survival.shape_features import FEATURES, measure_tumour

logger = logging.getLogger(__name__)

FIELD = (240.0, 240.0, 155.0)
CORNER = (0.0, 239.0, 0.0)
"""Of a scan in the space of BraTS.

Millimetres it spans to the left, the back and the head, and where its first voxel lies.
"""

BRATS_CENTRE = (-118.5, 104.0, 76.0)
"""The brain's centre there, in millimetres.

BraTS lays every patient over one atlas (SRI24, Rohlfing et al. 2010). x is the mean of the mirror axis
of 104 real slices (deviation 1.0 mm between slices), y and z are those of the brains of three real volumes, which
differ by up to 1.3 mm."""

TOLERANCE = 2.0
"""Millimetres by which a resampled mask's field may differ; where voxels are longer, one voxel."""

IMAGE, BRATS, UNKNOWN = "scan", "BraTS space", ""
"""Where a brain's centre was taken from."""

EMPTY = "the mask is empty: there is no tumour to measure"


@dataclass(frozen=True)
class Mask:
    """A predicted mask of one patient, to be written as a NIfTI file.

    Attributes:
        file: name to write it under.
        labels: as in a prepared store, k for the k-th tissue; axes L, P, S.
        tissues: in the order of the labels; their first labels are written.
        affine: from indices of `labels` to millimetres.
        like: a NIfTI volume of the patient, whose orientation and header the mask gets; None if there is none.
    """

    patient: str
    file: str
    labels: UInt8[np.ndarray, "h w d"]
    tissues: tuple[Tissue, ...]
    affine: Float[np.ndarray, "4 4"]
    like: Path | None = None

    def write(self, path: Path) -> None:
        """Write the NIfTI file."""
        if self.like:
            write_mask(path, self.labels, self.like, self.tissues)
        else:
            write_new_mask(path, self.labels, self.affine, self.tissues)


def measure_file(found: PatientFiles, data_set: DataSet, source: Path) -> pd.DataFrame:
    """One row of the table of features, measured from a NIfTI mask.

    One that can't be measured carries the reason in `excluded`.
    """
    mask, scan = (
        found.volumes[MASK],
        next((found.volumes[name] for name in data_set.modality_names if name in found.volumes), None),
    )
    patient, file = found.patient, str(mask.relative_to(source))
    if MASK in found.conflicts:
        return _excluded(patient, file, found.conflicts[MASK])
    try:
        labels, affine = read_mask(mask, found.find_tissues(data_set))
        brain = _read_brain(labels.shape, affine, scan) if scan else None
        centre, centre_from = _find_centre(labels.shape, affine, brain)
        row = _row(patient, file, labels, affine, centre, centre_from, data_set)
    except ValueError as error:
        return _excluded(patient, file, str(error))
    problem = f"{EMPTY}; check or remove it" if not labels.any() else _explain_size(labels, affine, brain)
    return _excluded(patient, file, problem) if problem else row


def _explain_size(
    labels: UInt8[np.ndarray, "h w d"], affine: np.ndarray, brain: tuple[np.ndarray, np.ndarray] | None
) -> str:
    """Why a mask is too large to be a tumour; empty if it isn't."""
    tumour_ml = np.count_nonzero(labels) * np.prod(voxel_sizes(affine)) / 1000
    if brain:
        return explain_size(tumour_ml, np.count_nonzero(brain[0]) * np.prod(voxel_sizes(brain[1])) / 1000)
    if tumour_ml > MOST_TUMOUR_ML:
        return (
            f"the mask has {tumour_ml:,.0f} ml, as much as a brain: a brain mask, or a label that means "
            "something else; check it on the scan"
        )
    return ""


def measure_slices(
    patient: str, labels: UInt8[np.ndarray, "n h w"], rows: pd.DataFrame, centre: np.ndarray | None, data_set: DataSet
) -> pd.DataFrame:
    """The same, measured from the slices of a prepared store.

    Args:
        labels: of the patient's slices.
        rows: of the store: `slice`, `row_mm`, `column_mm`, `slice_mm`.
        centre: of the brain, as `centre_of_slices` gives it.
    """
    try:
        affine = affine_of_slices(rows)
        row = _row(
            patient,
            "",
            np.moveaxis(labels[np.argsort(rows["slice"].to_numpy())], 0, -1),
            affine,
            centre,
            IMAGE,
            data_set,
        )
        return row if labels.any() else row.assign(excluded=EMPTY)
    except ValueError as error:
        return _excluded(patient, "", str(error))


def affine_of_slices(rows: pd.DataFrame) -> Float[np.ndarray, "4 4"]:
    """From (row, column, place in the stack) to millimetres.

    Slices that were left out between those there make them thicker.

    Raises:
        ValueError: if the slices don't make a volume.
    """
    numbers = np.sort(rows["slice"].to_numpy().astype(int))
    row_mm, column_mm, slice_mm = (float(rows[name].iloc[0]) for name in ("row_mm", "column_mm", "slice_mm"))
    gaps = np.diff(numbers)
    shown = f"slice{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:6]))}{', ...' * (len(numbers) > 6)}"
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
    affine = np.diag([-row_mm, -column_mm, slice_mm * step, 1.0])
    affine[2, 3] = slice_mm * numbers[0]
    return affine


def centre_of_slices(brain: Bool[np.ndarray, "n h w"], rows: pd.DataFrame) -> Float[np.ndarray, " 3"] | None:
    """The centre of mass of the brain that the slices show, in the millimetres of their affine."""
    try:
        return _centre(np.moveaxis(brain[np.argsort(rows["slice"].to_numpy())], 0, -1), affine_of_slices(rows))
    except ValueError:
        return None


def _read_brain(
    shape: tuple[int, ...], affine: np.ndarray, scan: Path
) -> tuple[Bool[np.ndarray, "h w d"], Float[np.ndarray, "4 4"]] | None:
    """Where a scan beside a mask shows brain, and its affine.

    None if it isn't skull-stripped, lies elsewhere or can't be read.
    """
    try:
        voxels, scan_affine = read_volume(scan)
    except ValueError as error:
        logger.warning("the brain's centre is not taken from the scan beside a mask: %s", error)
        return None
    if not lie_together(shape, affine, voxels.shape, scan_affine):
        logger.warning("the brain's centre is not taken from %s, which lies elsewhere than the mask beside it", scan)
        return None
    shell = np.concatenate([np.take(voxels, side, axis).ravel() for axis in range(3) for side in (0, -1)])
    brain = voxels != np.sort(shell)[shell.size // 2]
    return (brain, scan_affine) if 0 < brain.mean() < MOST_BRAIN else None


def _find_centre(
    shape: tuple[int, ...], affine: np.ndarray, brain: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray | None, str]:
    """The centre of the scan's own brain, else that of the atlas where the mask lies in the space of BraTS."""
    if brain:
        return _centre(*brain), IMAGE
    return (np.array(BRATS_CENTRE), BRATS) if _is_in_brats_space(shape, affine) else (None, UNKNOWN)


def _is_in_brats_space(shape: tuple[int, ...], affine: np.ndarray) -> bool:
    spacing = voxel_sizes(affine)
    tolerance = np.maximum(TOLERANCE, spacing)
    straight = np.allclose(affine[:3, :3], np.diag(np.diag(affine[:3, :3])), atol=1e-3)
    spans = (np.abs(np.multiply(shape, spacing) - FIELD) <= tolerance).all()
    return bool(straight and spans and (np.abs(affine[:3, 3] - CORNER) <= tolerance).all())


def _centre(brain: Bool[np.ndarray, "h w d"], affine: np.ndarray) -> Float[np.ndarray, " 3"] | None:
    return apply_affine(affine, np.array(np.nonzero(brain)).mean(1)) if brain.any() else None


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
    return pd.DataFrame(
        [
            {"patient": patient, "file": file, "spacing_mm": spacing, "centre_from": centre_from, "excluded": ""}
            | features
        ]
    )


def _excluded(patient: str, file: str, reason: str) -> pd.DataFrame:
    row = {"patient": patient, "file": file, "spacing_mm": "", "centre_from": UNKNOWN, "excluded": reason}
    return pd.DataFrame([row | {feature.name: np.nan for feature in FEATURES}])
