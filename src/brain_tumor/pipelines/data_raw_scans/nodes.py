"""Nodes that bring raw scans into the position of BraTS, patient after patient, and masks back."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from brain_tumor.data.common.files import SIMULATED_MARK, is_simulated
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map, track
from brain_tumor.data.common.tables import with_text
from brain_tumor.data.raw_scans.atlas import AFFINE, SHAPE
from brain_tumor.data.raw_scans.brain import PREPARED, SKULL
from brain_tumor.data.raw_scans.checks import measure_shift, measure_turn
from brain_tumor.data.raw_scans.convert import EXCLUDED, NoteFile, VolumeFile, read_excluded
from brain_tumor.data.raw_scans.extra import require_extra
from brain_tumor.data.raw_scans.find_patients import RawPatient, find_patients, name_volume
from brain_tumor.data.raw_scans.grids import Matrix
from brain_tumor.data.raw_scans.prepare import (
    find_brain,
    find_own_mask,
    find_states,
    place_brain,
    place_modality,
    register_modality,
    return_labels,
)
from brain_tumor.data.raw_scans.prepare import (
    register_to_atlas as register_brain,
)
from brain_tumor.data.raw_scans.registration import Registration
from brain_tumor.data.raw_scans.settings import RawSettings
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.nifti_masks import name_mask, read_mask
from brain_tumor.data.scans.nifti_volumes import read_volume
from brain_tumor.data.scans.scan import MissingModalities
from brain_tumor.data.survival.tumour_masks import Mask

logger = logging.getLogger(__name__)

Placed = tuple[str, dict[str, Matrix], Matrix, str]
"""A patient who lies on the atlas: name, matrix of each modality, matrix to the atlas, state."""

BRAIN = "brain"
"""Ending of the files of brain masks."""

MARK = NoteFile(SIMULATED_MARK, "Made from simulated scans.\n")
"""What is made from simulated scans is marked as they are."""

ATLAS = "atlas"
"""In place of a modality in the table of the registrations to the atlas."""


def import_scans(
    source: Path, data_set: DataSet, settings: RawSettings, missing: MissingModalities
) -> tuple[pd.DataFrame, Iterator[VolumeFile | NoteFile]]:
    """Table of the series of each patient, with what they are taken for, and the volumes as scanned.

    Args:
        missing: what is done with patients who lack a modality, neither that which the others are registered to nor
            that whose grid the mask gets.

    Raises:
        FileNotFoundError: if there is no scan in the folder.
        ImportError: if a library of the extra `raw` isn't installed.
        ValueError: if no patient can be prepared, or the settings name a modality that isn't declared.
    """
    # Before hours of reading, not after them.
    require_extra("SimpleITK")
    _require_modalities(settings, data_set)
    patients = find_patients(source, data_set, settings, go_on=missing == "zero")
    simulated = is_simulated(source)
    rows = []
    for patient in patients:
        about = {"note": patient.note, "excluded": patient.problem, "simulated": simulated}
        rows += [row | about for row in patient.rows]
        if patient.problem:
            logger.warning("excluded: %s: %s", patient.patient, patient.problem)
        elif patient.note:
            logger.warning("%s: %s", patient.patient, patient.note)
    usable = [patient for patient in patients if not patient.problem]
    if not usable:
        first = patients[0]
        remedy = "give the folder of the scans with `--params raw_source=PATH`"
        raise ValueError(f"no patient in {source} can be prepared; {first.patient}: {first.problem}; {remedy}")
    shown = name_volume("{patient}", settings.brain_modality, data_set)
    masks = settings.brain_masks
    if any(find_own_mask(masks, each.patient, shown.format(patient=each.patient)) is None for each in usable):
        require_extra("deepbet")
    return pd.DataFrame(rows), _convert(usable, data_set, simulated=simulated)


def _require_modalities(settings: RawSettings, data_set: DataSet) -> None:
    for key in ("reference", "brain_modality", "mask_on"):
        name = getattr(settings, key)
        if name not in data_set.modality_names:
            raise ValueError(f"data_raw_scans.{key} must be one of {data_set.modality_names}, got {name}")


def _convert(patients: list[RawPatient], data_set: DataSet, *, simulated: bool) -> Iterator[VolumeFile | NoteFile]:
    if simulated:
        yield MARK
    for patient in track(patients, "reading raw scans"):
        for item in patient.convert(data_set):
            if isinstance(item, NoteFile):
                logger.warning("excluded: %s: %s", patient.patient, item.text)
            yield item


def register_modalities(
    series: pd.DataFrame, native: Path, data_set: DataSet, settings: RawSettings, workers: WorkerSettings
) -> pd.DataFrame:
    """A row for each patient and modality: how it lies on the reference, or why the patient is excluded."""
    patients = _in_use(with_text(series, "excluded"), native)
    states = list(parallel_map(_state, [(patient, native, data_set) for patient in patients], workers, "looking at"))
    tasks = []
    for patient, (state, problem) in zip(patients, states, strict=True):
        about = state, problem, native, data_set, settings.reference
        tasks += [(patient, modality, *about) for modality in list_volumes(patient, native, data_set)]
    rows = list(parallel_map(_register, tasks, workers, "registering", "volume"))
    table = pd.DataFrame(rows, columns=COLUMNS)
    _require_some(table, native)
    return table


COLUMNS = ["patient", "modality", "state", "information_before", "information_after", "turn_degrees", "shift_mm",
           "matrix", "excluded"]  # fmt: skip


def _in_use(table: pd.DataFrame, *folders: Path) -> list[str]:
    """Patients whom no row of a table and no note in the folders excludes."""
    left_out = set(table.loc[table["excluded"] != "", "patient"])
    patients = [name for name in table["patient"].unique() if name not in left_out]
    return [name for name in patients if not any(read_excluded(folder, name) for folder in folders)]


def _require_some(table: pd.DataFrame, folder: Path) -> None:
    """Refuse to go on with nobody.

    Args:
        folder: with the notes of patients who were excluded before, which were logged then.
    """
    excluded = table[table["excluded"] != ""].drop_duplicates("patient")
    for row in excluded.itertuples():
        logger.warning("excluded: %s: %s", row.patient, row.excluded)
    if not set(table["patient"]) - set(excluded["patient"]):
        reasons = [f"{row.patient}: {row.excluded}" for row in excluded.itertuples()]
        notes = sorted(folder.glob(f"*{EXCLUDED}"))
        reasons += [f"{note.name.removesuffix(EXCLUDED)}: {note.read_text(encoding='utf-8')}" for note in notes]
        raise ValueError(f"no patient can be prepared; {reasons[0]}" if reasons else "no patient can be prepared")


def list_volumes(patient: str, native: Path, data_set: DataSet) -> dict[str, Path]:
    """Modality > file as scanned, of the modalities that there are."""
    files = {name: native / name_volume(patient, name, data_set) for name in data_set.modality_names}
    return {name: file for name, file in files.items() if file.is_file()}


def _state(patient: str, native: Path, data_set: DataSet) -> tuple[str, str]:
    try:
        return find_states(list_volumes(patient, native, data_set)), ""
    except ValueError as error:
        return "", str(error)


def _register(
    patient: str, modality: str, state: str, problem: str, native: Path, data_set: DataSet, reference: str
) -> dict:
    files = list_volumes(patient, native, data_set)
    if problem:
        return _row(patient, modality, state, None, None, problem)
    if modality == reference or state == PREPARED:
        return _row(patient, modality, state, Registration(np.eye(4), np.nan, np.nan), None)
    try:
        found = register_modality(files[reference], files[modality])
        return _row(patient, modality, state, found, _centre(files[reference]))
    except ValueError as error:
        return _row(patient, modality, state, None, None, f"{modality}: {error}")


def _centre(file: Path) -> np.ndarray:
    voxels, affine = read_volume(file)
    return apply_affine(affine, np.array(voxels.shape) / 2)


def _row(
    patient: str,
    modality: str,
    state: str,
    found: Registration | None,
    centre: np.ndarray | None,
    excluded: str = "",
) -> dict:
    row = dict.fromkeys(COLUMNS, np.nan) | {"patient": patient, "modality": modality, "state": state}
    row |= {"matrix": "", "excluded": excluded}
    if found is None:
        return row
    row["matrix"] = " ".join(f"{value:.9g}" for value in found.matrix.ravel())
    if np.isfinite(found.after):
        row |= {"information_before": round(found.before, 4), "information_after": round(found.after, 4)}
    if centre is not None:
        row["turn_degrees"] = round(measure_turn(found.matrix), 2)
        row["shift_mm"] = round(measure_shift(found.matrix, centre), 2)
    return row


def read_matrices(table: pd.DataFrame, patient: str) -> dict[str, Matrix]:
    """Modality > its matrix in a table of transforms, of one patient."""
    own = table[(table["patient"] == patient) & (table["matrix"] != "")]
    return {row.modality: np.array(row.matrix.split(), float).reshape(4, 4) for row in own.itertuples()}


def extract_brains(
    transforms: pd.DataFrame, native: Path, data_set: DataSet, settings: RawSettings
) -> Iterator[VolumeFile | NoteFile]:
    """The brain of each patient at 1 mm in the place of the reference, or why there is none."""
    return _extract(with_text(transforms, "excluded", "matrix", "state"), native, data_set, settings)


def _extract(
    transforms: pd.DataFrame, native: Path, data_set: DataSet, settings: RawSettings
) -> Iterator[VolumeFile | NoteFile]:
    for patient in track(_in_use(transforms), "extracting brains"):
        state = transforms.loc[transforms["patient"] == patient, "state"].iloc[0]
        files, matrices = list_volumes(patient, native, data_set), read_matrices(transforms, patient)
        shown = settings.brain_modality
        if shown not in files:
            shown = settings.reference
            if state == SKULL:
                logger.warning("%s: no %s, so the brain is that of %s", patient, settings.brain_modality, shown)
        own = find_own_mask(settings.brain_masks, patient, files[shown].name)
        if settings.brain_masks and state == SKULL and own is None:
            logger.warning("%s: no brain mask of your own, so it is extracted", patient)
        try:
            brain = find_brain(files, matrices, state, settings.reference, shown, own)
        except ValueError as error:
            logger.warning("excluded: %s: %s", patient, error)
            yield NoteFile(f"{patient}{EXCLUDED}", str(error))
        else:
            yield VolumeFile(f"{patient}_{BRAIN}.nii.gz", brain.voxels, brain.affine)


def register_to_atlas(
    transforms: pd.DataFrame,
    native: Path,
    brains: Path,
    data_set: DataSet,
    settings: RawSettings,
    workers: WorkerSettings,
) -> pd.DataFrame:
    """A row for each patient: how the reference lies on the atlas, or why the patient is excluded."""
    transforms = with_text(transforms, "excluded", "matrix", "state")
    tasks = []
    for patient in _in_use(transforms, brains):
        state = transforms.loc[transforms["patient"] == patient, "state"].iloc[0]
        reference = list_volumes(patient, native, data_set)[settings.reference]
        tasks.append((patient, state, reference, brains / f"{patient}_{BRAIN}.nii.gz", settings))
    rows = list(parallel_map(_register_brain, tasks, workers, "registering to the atlas"))
    table = pd.DataFrame(rows, columns=COLUMNS)
    _require_some(table, brains)
    return table


def _register_brain(patient: str, state: str, reference: Path, brain: Path, settings: RawSettings) -> dict:
    if state == PREPARED:
        _, affine = read_volume(reference)
        # From the position of BraTS to where the header lays the same voxels.
        matrix = affine @ np.linalg.inv(AFFINE)
        return _row(patient, ATLAS, state, Registration(matrix, np.nan, np.nan), None)
    try:
        found = register_brain(reference, brain, settings.atlas, affine=settings.atlas_transform == "affine")
    except ValueError as error:
        return _row(patient, ATLAS, state, None, None, f"atlas: {error}")
    return _row(patient, ATLAS, state, found, apply_affine(AFFINE, np.array(SHAPE) / 2))


def resample_scans(
    transforms: pd.DataFrame, atlas_transforms: pd.DataFrame, native: Path, brains: Path, data_set: DataSet
) -> Iterator[VolumeFile | NoteFile]:
    """Each modality in the position of BraTS at 1 mm, 0 outside the brain; a prepared scan as it is."""
    return _resample(list_placed(transforms, atlas_transforms), native, brains, data_set, heads=False)


def keep_heads(
    transforms: pd.DataFrame,
    atlas_transforms: pd.DataFrame,
    native: Path,
    brains: Path,
    data_set: DataSet,
    settings: RawSettings,
) -> Iterator[VolumeFile | NoteFile]:
    """The same with the skull, and the brain there, if intermediate files are kept; else nothing."""
    if not settings.keep_intermediate:
        return iter(())
    return _resample(list_placed(transforms, atlas_transforms), native, brains, data_set, heads=True)


def _resample(
    placed: list[Placed],
    native: Path,
    brains: Path,
    data_set: DataSet,
    *,
    heads: bool,
) -> Iterator[VolumeFile | NoteFile]:
    if (native / SIMULATED_MARK).is_file():
        yield MARK
    for patient, matrices, to_atlas, state in placed:
        brain = place_brain(brains / f"{patient}_{BRAIN}.nii.gz", to_atlas)
        if heads:
            yield VolumeFile(f"{patient}_{BRAIN}.nii.gz", brain.astype(np.uint8), AFFINE)
        for modality, file in list_volumes(patient, native, data_set).items():
            if state == PREPARED:
                voxels, _ = read_volume(file)
            else:
                voxels = place_modality(file, matrices[modality] @ to_atlas)
            if not heads and state != PREPARED:
                voxels = np.where(brain, voxels, np.float32(0))
            yield VolumeFile(name_volume(patient, modality, data_set), voxels, AFFINE)


def list_placed(transforms: pd.DataFrame, atlas_transforms: pd.DataFrame) -> list[Placed]:
    """Patients who lie on the atlas."""
    transforms = with_text(transforms, "excluded", "matrix", "state")
    atlas = with_text(atlas_transforms, "excluded", "matrix", "state")
    placed = []
    for patient in _in_use(atlas):
        state = atlas.loc[atlas["patient"] == patient, "state"].iloc[0]
        placed.append((patient, read_matrices(transforms, patient), read_matrices(atlas, patient)[ATLAS], state))
    return placed


def return_masks(
    masks: Path,
    transforms: pd.DataFrame,
    atlas_transforms: pd.DataFrame,
    native: Path,
    data_set: DataSet,
    settings: RawSettings,
) -> Iterator[Mask]:
    """The mask of each patient on the grid of the raw volume of `mask_on`, voxel for voxel."""
    return _return(masks, list_placed(transforms, atlas_transforms), native, data_set, settings)


def _return(
    masks: Path,
    placed: list[Placed],
    native: Path,
    data_set: DataSet,
    settings: RawSettings,
) -> Iterator[Mask]:
    for patient, matrices, to_atlas, _ in placed:
        name = name_mask(patient, data_set)
        # The network may have refused a scan; the report of inference has the reason.
        if not (masks / name).is_file():
            logger.warning("%s: no mask to bring back", patient)
            continue
        tissues = data_set.tissues_of({patient})
        labels, affine = read_mask(masks / name, tissues)
        like = list_volumes(patient, native, data_set)[settings.mask_on]
        voxels, grid = read_volume(like)
        to_prepared = np.linalg.inv(matrices[settings.mask_on] @ to_atlas)
        nearest = settings.mask_interpolation == "nearest"
        returned = return_labels(labels, affine, voxels.shape, grid, to_prepared, nearest=nearest)
        yield Mask(patient, name, returned, tissues, grid, like)
