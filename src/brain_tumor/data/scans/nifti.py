"""Patients as NIfTI volumes.

One file for each modality and one mask. `brain_tumor.data.scans.patient_files` tells which file is whose.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import UInt8

from brain_tumor.data.scans.data_set import MASK, DataSet
from brain_tumor.data.scans.nifti_masks import is_predicted, to_labels
from brain_tumor.data.scans.nifti_volumes import UNKNOWN_CODE, open_volume, read_unit, read_volumes
from brain_tumor.data.scans.patient_files import PatientFiles, group_files
from brain_tumor.data.scans.scan import WHOLE_PATIENT, Scan, Slice, Unreadable, Volume


def find(
    files: list[Path],
    data_set: DataSet,
    *,
    need_mask: bool = True,
    need_all: bool = True,
) -> list[Scan]:
    """The patients whose volumes are among the files; one that lacks a volume carries the problem.

    Args:
        need_mask: a patient without a mask, or with a conflict of masks, has a problem; else such a mask is only not
            used.
        need_all: a patient without one of the modalities has a problem; else the scan has its name in `missing`.
    """
    scans = []
    for found in group_files(files, data_set, is_predicted):
        # A mask alone is nothing to segment, but for training it is a patient who lacks the scan.
        mask_alone = set(found.volumes) == {MASK}
        if found.volumes and (need_mask or not mask_alone):
            scans.append(_scan(found, data_set, need_mask=need_mask, need_all=need_all))
    return scans


def _scan(found: PatientFiles, data_set: DataSet, *, need_mask: bool, need_all: bool) -> Scan:
    mask_problem = found.conflicts.get(MASK, "")
    if found.predicted and not found.mask:
        mask_problem = (
            f"{found.predicted.name} is a mask that this project predicted, no expert's; add the expert's, or, if an "
            "expert corrected this one, take its mark away with nibabel: `image.header.set_intent('none')`"
        )
    problems, files, missing = [], [], []
    # In the order declared, which is that of the channels, the mask last.
    for kind in data_set.volume_suffixes:
        is_mask = kind == MASK
        if not (need_all or is_mask or kind in found.volumes):
            missing.append(kind)
        elif need_mask or not is_mask:
            problems.append(_explain_kind(kind, found, data_set, mask_problem))
        if kind in found.volumes and (need_mask or not is_mask or not mask_problem):
            files.append(found.volumes[kind])
    return Scan.from_files(
        found.patient,
        "nifti",
        files,
        problem="; ".join(problem for problem in problems if problem),
        note="; ".join(found.notes),
        mask=None if mask_problem else found.mask,
        mask_problem=mask_problem,
        tissues=found.find_tissues(data_set),
        missing=tuple(missing),
    )


def _explain_kind(kind: str, found: PatientFiles, data_set: DataSet, mask_problem: str) -> str:
    """Why a modality, or the mask, can't be used; empty if it can."""
    if kind in found.volumes:
        return found.conflicts.get(kind, "")
    if kind == MASK and mask_problem:
        return mask_problem
    return f"{explain_missing(kind, data_set)}; add it"


def explain_missing(kind: str, data_set: DataSet) -> str:
    """That a modality, or the mask, has no file, and what its name would end in."""
    endings = [f"_{suffix}" for suffix in data_set.volume_suffixes[kind]]
    return f"no {kind} volume (a file ending in {' or '.join(endings)}.nii.gz)"


def find_masks(files: list[Path], data_set: DataSet, unnamed: str = "") -> list[PatientFiles]:
    """The patients who have a mask among the files: an expert's, or else one that this project predicted.

    Args:
        unnamed: MASK if files of no declared suffix are masks too, as `P1.nii.gz`.
    """
    patients = group_files(files, data_set, is_predicted, unnamed)
    for found in patients:
        if found.predicted and not found.mask:
            found.volumes[MASK] = found.predicted
            found.notes.append("the mask is a prediction of this project")
    return [found for found in patients if found.mask]


def read(
    scan: Scan,
    data_set: DataSet,  # the same for every layout  # noqa: ARG001
    numbers: Collection[int] | None = None,
) -> Iterator[Slice | Unreadable]:
    """The slices of one patient; see `brain_tumor.data.scans.find_scans.read_slices`."""
    folder = scan.files[0].parent
    try:
        volumes, affine = read_volumes(scan.files)
        labels = to_labels(volumes.pop(), scan.files[-1], scan.tissues)
    except ValueError as error:
        yield Unreadable(WHOLE_PATIENT, folder, str(error))
        return
    row_mm, column_mm, slice_mm = nib.affines.voxel_sizes(affine).tolist()
    spacing = row_mm, column_mm, slice_mm
    for number in range(labels.shape[-1]):
        if numbers is None or number in numbers:
            image = np.stack([volume[:, :, number] for volume in volumes])
            yield Slice(number, folder, image, labels[:, :, number], spacing)


def read_image(scan: Scan, data_set: DataSet) -> Volume:
    """The volumes of a patient without a mask, turned to L, P, S; that of a missing modality is 0.

    Raises:
        ValueError: if one can't be read, or lies elsewhere than the first.
    """
    volumes, affine = read_volumes(scan.volumes)
    there = iter(volumes)
    empty = np.zeros_like(volumes[0])
    image = [empty if name in scan.missing else next(there) for name in data_set.modality_names]
    return Volume(np.stack(image), affine, read_note(scan))


def read_note(scan: Scan) -> str:
    """What is unusual about the headers of a scan that can be used; empty if nothing is."""
    odd = [file.name for file in scan.files if read_unit(open_volume(file)) == UNKNOWN_CODE]
    if not odd:
        return ""
    names = ", ".join(odd)
    return f"the unit of {names} has a code that NIfTI doesn't know: taken for millimetres"


def read_labels(scan: Scan, data_set: DataSet) -> UInt8[np.ndarray, "h w d"] | None:  # the same  # noqa: ARG001
    """Labels of the mask beside a scan, on its grid, turned to L, P, S; None if there is none.

    Raises:
        ValueError: if it can't be read, lies elsewhere than the scan, or holds a label that is no tissue's.
    """
    if scan.mask is None:
        return None
    (_, voxels), _ = read_volumes((scan.volumes[0], scan.mask))
    return to_labels(voxels, scan.mask, scan.tissues)
