"""Nodes that show whether raw scans were prepared well: numbers, pictures, a page."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.parallel import track
from brain_tumor.data.common.tables import with_text
from brain_tumor.data.raw_scans.atlas import AFFINE
from brain_tumor.data.raw_scans.checks import find_warnings, measure_cut, measure_overlap
from brain_tumor.data.raw_scans.convert import read_excluded
from brain_tumor.data.raw_scans.grids import Matrix, measure_ml, resample
from brain_tumor.data.raw_scans.prepare import place_brain
from brain_tumor.data.raw_scans.settings import RawSettings
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.nifti_volumes import read_volume
from brain_tumor.pipelines.data_raw_scans.nodes import BRAIN, Placed, list_placed, list_volumes
from brain_tumor.reporting.data_raw_scans.report import compose_raw_report

logger = logging.getLogger(__name__)

SHOWN = 12
"""Patients that are drawn, at most: those with warnings first."""


def check_scans(
    series: pd.DataFrame,
    transforms: pd.DataFrame,
    atlas_transforms: pd.DataFrame,
    native: Path,
    brains: Path,
    data_set: DataSet,
) -> pd.DataFrame:
    """A row for each patient: brain volume, overlap with the atlas, what looks wrong, or why they are excluded."""
    rows = []
    for patient, matrices, to_atlas, state in track(list_placed(transforms, atlas_transforms), "checking"):
        file = brains / f"{patient}_{BRAIN}.nii.gz"
        voxels, affine = read_volume(file)
        brain = place_brain(file, to_atlas)
        cut = {}
        for modality, volume in list_volumes(patient, native, data_set).items():
            shown, own = read_volume(volume)
            cut[modality] = measure_cut(brain, shown.shape, own, matrices[modality] @ to_atlas)
        volume_ml, overlap = measure_ml(voxels, affine), measure_overlap(brain)
        own_rows = transforms[transforms["patient"] == patient]
        moves = {row.modality: (row.turn_degrees, row.shift_mm) for row in own_rows.itertuples()}
        found = find_warnings(volume_ml, overlap, cut, moves)
        for warning in found:
            logger.warning("%s: %s", patient, warning)
        rows.append(
            {
                "patient": patient,
                "state": state,
                "brain_ml": round(volume_ml, 1),
                "overlap_with_atlas": round(overlap, 3),
                "cut_brain": round(max(cut.values()), 4),
                "warnings": "; ".join(found),
                "excluded": "",
            }
        )
    placed = {row["patient"] for row in rows}
    tables = [with_text(table, "excluded") for table in (series, transforms, atlas_transforms)]
    for patient in sorted(set(series["patient"]) - placed):
        reasons = [table.loc[(table["patient"] == patient) & (table["excluded"] != ""), "excluded"] for table in tables]
        given = [reason for own in reasons for reason in own.unique()]
        given += [reason for folder in (native, brains) if (reason := read_excluded(folder, patient))]
        rows.append(dict.fromkeys(COLUMNS) | {"patient": patient, "warnings": "", "excluded": "; ".join(given)})
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = ["patient", "state", "brain_ml", "overlap_with_atlas", "cut_brain", "warnings", "excluded"]


def draw_raw_scans(
    quality: pd.DataFrame,
    transforms: pd.DataFrame,
    atlas_transforms: pd.DataFrame,
    native: Path,
    brains: Path,
    data_set: DataSet,
    settings: RawSettings,
) -> Iterator[tuple[str, Any]]:
    """Of each patient two planes: every modality in a checkerboard with the reference, and the brain's outline."""
    quality = with_text(quality, "warnings", "excluded")
    warned = set(quality.loc[quality["warnings"] != "", "patient"])
    placed = sorted(list_placed(transforms, atlas_transforms), key=lambda each: (each[0] not in warned, each[0]))
    return _draw(placed[:SHOWN], native, brains, data_set, settings)


def _draw(
    placed: list[Placed], native: Path, brains: Path, data_set: DataSet, settings: RawSettings
) -> Iterator[tuple[str, Any]]:
    from brain_tumor.figures.raw_scans import draw_patient

    for number, (patient, matrices, to_atlas, _) in enumerate(placed, start=1):
        brain = place_brain(brains / f"{patient}_{BRAIN}.nii.gz", to_atlas)
        planes = {}
        for modality, file in list_volumes(patient, native, data_set).items():
            planes[modality] = _cut_planes(file, matrices[modality] @ to_atlas, brain)
        outline = [_take(brain, axis) for axis in AXES]
        yield f"{number:02d}_{patient}", draw_patient(planes, outline, settings.reference, patient)


AXES = (2, 0)
"""Planes that are drawn: axial and sagittal."""


def _middle(brain: np.ndarray, axis: int) -> int:
    """A plane through the brain, beside its middle, where the gap between the halves would be."""
    places = np.flatnonzero(brain.any(tuple(other for other in range(3) if other != axis)))
    low, high = places[0], places[-1]
    return int(low + (0.55 if axis == 2 else 0.4) * (high - low))


def _take(brain: np.ndarray, axis: int) -> np.ndarray:
    return np.take(brain, _middle(brain, axis), axis)


def _cut_planes(file: Path, transform: Matrix, brain: np.ndarray) -> list[np.ndarray]:
    """The planes of a modality on the grid of BraTS, with its skull."""
    voxels, affine = read_volume(file)
    planes = []
    for axis in AXES:
        grid = AFFINE.copy()
        grid[:3, 3] += AFFINE[:3, axis] * _middle(brain, axis)
        shape = [1 if other == axis else side for other, side in enumerate(brain.shape)]
        planes.append(np.squeeze(resample(voxels, affine, shape, grid, transform), axis))
    return planes


def write_raw_report(
    series: pd.DataFrame,
    transforms: pd.DataFrame,
    atlas_transforms: pd.DataFrame,
    quality: pd.DataFrame,
    figures: dict[str, bytes],
    settings: RawSettings,
) -> str:
    """The report as one HTML page."""
    return compose_raw_report(series, transforms, atlas_transforms, quality, figures, {"data_raw_scans": settings})
