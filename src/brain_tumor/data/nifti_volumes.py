"""Patients as NIfTI volumes: one file for each modality and one mask, named by their endings."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Num, UInt8
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from brain_tumor.data.declaration import MASK, DataSet
from brain_tumor.data.scan import WHOLE_PATIENT, Scan, Slice, Unreadable

ORIENTATION = ("L", "P", "S")
"""Axes of every volume once read: the published HDF5 slices have it too."""

SUFFIXES = (".nii", ".nii.gz")


def find(files: list[Path], data_set: DataSet) -> list[Scan]:
    """The patients whose volumes are among the files; one that lacks a volume carries the problem."""
    patients: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    for file in files:
        kind, patient = _parse(file.name, data_set)
        if kind:
            patients[file.parent, patient].setdefault(kind, file)
    kinds = (*data_set.modalities, MASK)
    return [_scan(patient, volumes, kinds, data_set) for (_, patient), volumes in patients.items()]


def _parse(name: str, data_set: DataSet) -> tuple[str, str]:
    """("T1ce", "BraTS20_Training_001") from "BraTS20_Training_001_t1ce.nii.gz"; empty if it isn't a declared volume."""
    for suffix in SUFFIXES:
        stem = name.removesuffix(suffix)
        for kind, endings in data_set.volume_endings.items():
            for ending in endings:
                for separator in "_-":
                    if stem != name and stem.lower().endswith(separator + ending.lower()):
                        return kind, stem[: -len(ending) - 1]
    return "", ""


def _scan(patient: str, volumes: dict[str, Path], kinds: tuple[str, ...], data_set: DataSet) -> Scan:
    problems = [
        f"no {kind} volume (a file ending in {' or '.join('_' + ending for ending in data_set.volume_endings[kind])}.nii.gz); add it"
        for kind in kinds
        if kind not in volumes
    ]
    return Scan.of(patient, "nifti", [volumes[kind] for kind in kinds if kind in volumes], "; ".join(problems))


def read(scan: Scan, data_set: DataSet, numbers: Collection[int] | None = None) -> Iterator[Slice | Unreadable]:
    """The slices of one patient; see `brain_tumor.data.scans.read_slices`."""
    folder = scan.files[0].parent
    if scan.problem:
        yield Unreadable(WHOLE_PATIENT, folder, scan.problem)
        return
    try:
        volumes, spacing = _read_volumes(scan.files)
        labels = _labels(volumes.pop(), scan.files[-1], data_set)
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        yield Unreadable(WHOLE_PATIENT, folder, f"unreadable NIfTI patient ({error}); fetch or mend the file")
        return
    for number in range(labels.shape[-1]):
        if numbers is None or number in numbers:
            image = np.stack([volume[:, :, number] for volume in volumes])
            yield Slice(number, folder, image, labels[:, :, number], spacing)


def _read_volumes(files: tuple[Path, ...]) -> tuple[list[np.ndarray], tuple[float, float, float]]:
    """Voxels of each file in the project's orientation, and the spacing in millimetres."""
    read = [read_volume(file) for file in files]
    first, spacing = read[0]
    for file, (voxels, own) in zip(files, read, strict=True):
        if voxels.shape != first.shape or not np.allclose(spacing, own, rtol=1e-3):
            raise ValueError(f"{file.name} is {voxels.shape} at {own} mm, {files[0].name} is {first.shape} at {spacing} mm: register them first")
    return [voxels for voxels, _ in read], spacing


def read_volume(file: Path) -> tuple[Num[np.ndarray, "h w d"], tuple[float, float, float]]:
    """Voxels of a NIfTI file turned to L, P, S, and millimetres along (row, column, slice).

    Raises:
        ValueError: if it isn't one volume of three axes, or holds NaN or infinity.
    """
    image = nib.nifti1.load(file)
    if len(image.shape) != 3:
        raise ValueError(f"{file.name} has {len(image.shape)} axes, a volume has three")
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(ORIENTATION)))
    voxels = np.asarray(image.dataobj)
    if not np.isfinite(voxels).all():
        raise ValueError(f"{file.name} holds NaN or infinity")
    row, column, depth = (float(size) for size in image.header.get_zooms())
    return voxels, (row, column, depth)


def _labels(mask: np.ndarray, file: Path, data_set: DataSet) -> UInt8[np.ndarray, "h w d"]:
    labels = np.zeros(mask.shape, np.uint8)
    for label, values in enumerate(data_set.tissues.values(), start=1):
        labels[np.isin(mask, values)] = label
    undeclared = np.setdiff1d(mask[labels == 0], [0])
    if undeclared.size:
        raise ValueError(f"{file.name} holds labels {undeclared[:5].tolist()}, declared are {dict(data_set.tissues)}")
    return labels
