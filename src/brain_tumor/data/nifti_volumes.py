"""Patients as NIfTI volumes: one file for each modality and one mask, named by their endings."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Num, UInt8
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from brain_tumor.data.declaration import MASK, DataSet
from brain_tumor.data.scan import WHOLE_PATIENT, Scan, Slice, Unreadable

ORIENTATION = ("L", "P", "S")
"""Axes of every volume once read: the published HDF5 slices have it too."""

logger = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii")

GEOMETRY_TOLERANCE = 0.5
"""Millimetres by which a corner of one volume of a patient may lie from that of another."""


def find(files: list[Path], data_set: DataSet, *, masks: bool = True) -> list[Scan]:
    """The patients whose volumes are among the files; one that lacks a volume carries the problem. `masks`: without, none is looked for."""
    patients: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    for file in files:
        kind, patient = _parse(file.name, data_set)
        if kind and (masks or kind != MASK):
            first = patients[file.parent, patient].setdefault(kind, file)
            if first != file:
                logger.warning("%s is used for %s of %s; %s beside it is not", first, kind, patient, file.name)
    _adopt_masks(patients)
    kinds = tuple(kind for kind in data_set.volume_endings if masks or kind != MASK)
    return [_scan(patient, volumes, kinds, data_set) for (_, patient), volumes in patients.items()]


def _adopt_masks(patients: dict[tuple[Path, str], dict[str, Path]]) -> None:
    """A mask under another name belongs to the patient whose volumes are alone with it in a folder (so is patient 355 of BraTS 2020 published)."""
    for folder, name in [key for key, volumes in patients.items() if set(volumes) == {MASK}]:
        others = [key for key in patients if key[0] == folder and key[1] != name]
        if len(others) == 1 and MASK not in patients[others[0]]:
            mask = patients.pop((folder, name))[MASK]
            logger.info("%s is taken for the mask of %s, whose scans are alone with it in their folder", mask, others[0][1])
            patients[others[0]][MASK] = mask


def _parse(name: str, data_set: DataSet) -> tuple[str, str]:
    """("T1ce", "BraTS20_Training_001") from "BraTS20_Training_001_t1ce.nii.gz"; empty if it isn't a declared volume."""
    for suffix in SUFFIXES:
        stem = name[: -len(suffix)] if name.lower().endswith(suffix) else name
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


def find_masks(files: list[Path], data_set: DataSet) -> list[tuple[str, Path, Path | None]]:
    """Each mask among the files: its patient, its file, and a scan of the same patient beside it if there is one."""
    parsed = [(file, *_parse(file.name, data_set)) for file in files]
    scans = {(file.parent, patient): file for file, kind, patient in reversed(parsed) if kind not in ("", MASK)}
    return [(patient, file, scans.get((file.parent, patient))) for file, kind, patient in parsed if kind == MASK]


def read_mask(file: Path, data_set: DataSet) -> tuple[UInt8[np.ndarray, "h w d"], Float[np.ndarray, "4 4"]]:
    """Labels of a NIfTI mask (0 background, k for the k-th tissue declared) turned to L, P, S, and the affine to millimetres.

    Raises:
        ValueError: as `read_volume`, or if it holds a label that the data set doesn't declare.
    """
    voxels, affine = read_volume(file)
    return _labels(voxels, file, data_set), affine


def read(scan: Scan, data_set: DataSet, numbers: Collection[int] | None = None) -> Iterator[Slice | Unreadable]:
    """The slices of one patient; see `brain_tumor.data.scans.read_slices`."""
    folder = scan.files[0].parent
    try:
        volumes, spacing = _read_volumes(scan.files)
        labels = _labels(volumes.pop(), scan.files[-1], data_set)
    except ValueError as error:
        yield Unreadable(WHOLE_PATIENT, folder, f"unreadable NIfTI patient ({error}); fetch or mend the file")
        return
    for number in range(labels.shape[-1]):
        if numbers is None or number in numbers:
            image = np.stack([volume[:, :, number] for volume in volumes])
            yield Slice(number, folder, image, labels[:, :, number], spacing)


def read_image(scan: Scan) -> tuple[Num[np.ndarray, "m h w d"], tuple[float, float, float]]:
    """The volumes of a patient without a mask, turned to L, P, S, and the spacing in millimetres.

    Raises:
        ValueError: if one can't be read, or lies elsewhere than the first.
    """
    try:
        volumes, spacing = _read_volumes(scan.files)
    except ValueError as error:
        raise ValueError(f"unreadable NIfTI patient ({error}); fetch or mend the file") from error
    return np.stack(volumes), spacing


def require_labels(mask: Path, scan: Scan, data_set: DataSet) -> None:
    """Refuse a mask that says nothing of a scan.

    Raises:
        ValueError: if it can't be read, lies elsewhere than the scan, or holds a label that the data set doesn't declare.
    """
    try:
        (_, voxels), _ = _read_volumes((scan.files[0], mask))
        _labels(voxels, mask, data_set)
    except ValueError as error:
        raise ValueError(f"unusable mask ({error})") from error


def _read_volumes(files: tuple[Path, ...]) -> tuple[list[np.ndarray], tuple[float, float, float]]:
    """Voxels of each file in the project's orientation, and the spacing in millimetres."""
    read = [read_volume(file) for file in files]
    first, affine = read[0]
    for file, (voxels, own) in zip(files, read, strict=True):
        apart = np.linalg.norm(_corners(first, affine) - _corners(first, own), axis=1).max()
        if voxels.shape != first.shape or not apart <= GEOMETRY_TOLERANCE:
            shift = f", a corner {apart:.2g} mm" if voxels.shape == first.shape else ""
            here, there = _geometry(voxels, own), _geometry(first, affine)
            raise ValueError(f"{file.name} ({here}) lies elsewhere than {files[0].name} ({there}){shift}; register them first")
    row, column, depth = nib.affines.voxel_sizes(affine).tolist()
    return [voxels for voxels, _ in read], (row, column, depth)


def lie_together(shape: tuple[int, ...], affine: np.ndarray, other: tuple[int, ...], other_affine: np.ndarray) -> bool:
    """Whether two volumes span the same place, whatever their voxels: no outer edge lies farther from the other's than a voxel."""
    edges = [nib.affines.apply_affine(a, [(-0.5,) * 3, np.subtract(s, 0.5)]) for s, a in ((shape, affine), (other, other_affine))]
    spans = [np.sort(edge, axis=0) for edge in edges]
    voxel = np.maximum(*(nib.affines.voxel_sizes(a) for a in (affine, other_affine))).max()
    return bool((np.abs(spans[0] - spans[1]) <= max(voxel, GEOMETRY_TOLERANCE)).all())


def _corners(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where the eight outer voxels lie, in millimetres."""
    return nib.affines.apply_affine(affine, list(product(*((0, side - 1) for side in voxels.shape))))


def _geometry(voxels: np.ndarray, affine: np.ndarray) -> str:
    size, spacing, origin = ("x".join(f"{x:g}" for x in np.round(values, 2)) for values in (voxels.shape, nib.affines.voxel_sizes(affine), affine[:3, 3]))
    return f"{size} voxels of {spacing} mm from {origin}"


def read_volume(file: Path) -> tuple[Num[np.ndarray, "h w d"], Float[np.ndarray, "4 4"]]:
    """Voxels of a NIfTI file turned to L, P, S, and the affine from their indices to millimetres.

    Raises:
        ValueError: if it can't be read, isn't one volume of three axes, or holds NaN or infinity.
    """
    try:
        image = _load(file)
        axes = len(image.shape)
        if axes == 3:
            image = reoriented(image)
            voxels = np.asarray(image.dataobj)
            finite = np.isfinite(voxels).all()
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{file.name}: {error}") from error
    if axes != 3:
        raise ValueError(f"{file.name} has {axes} axes, a volume has three")
    if not finite:
        raise ValueError(f"{file.name} holds NaN or infinity")
    return voxels, image.affine


def _load(file: Path) -> nib.Nifti1Image:
    """A file of NIfTI-1, or of NIfTI-2, which nibabel derives from it; voxels are read when they are asked for."""
    image = nib.load(file)
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(f"it holds {type(image).__name__}, not NIfTI")
    return image


def name_mask(patient: str, data_set: DataSet) -> str:
    """What a patient's mask is called: the first of the endings declared."""
    return f"{patient}_{data_set.mask[0]}.nii.gz"


def write_mask(file: Path, labels: UInt8[np.ndarray, "h w d"], like: Path, data_set: DataSet) -> None:
    """Labels as a NIfTI mask in the orientation, the geometry and the label values that the data set was published with.

    Args:
        labels: as `read_slices` gives them, stacked: L, P, S.
        like: a volume of the same patient.
    """
    original = _load(like)
    values = np.array([0, *(tissue.labels[0] for tissue in data_set.tissues)], np.uint8)
    turned = nib.Nifti1Image(values[labels], reoriented(original).affine)
    back = ornt_transform(axcodes2ornt(ORIENTATION), io_orientation(original.affine))
    nib.nifti1.save(turned.as_reoriented(back), file)


def reoriented(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The image with its axes turned to L, P, S."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(ORIENTATION)))


def _labels(mask: np.ndarray, file: Path, data_set: DataSet) -> UInt8[np.ndarray, "h w d"]:
    labels = np.zeros(mask.shape, np.uint8)
    for label, tissue in enumerate(data_set.tissues, start=1):
        labels[np.isin(mask, tissue.labels)] = label
    undeclared = np.setdiff1d(mask[labels == 0], [0])
    if undeclared.size:
        raise ValueError(f"{file.name} holds labels {undeclared[:5].tolist()}, declared are { {tissue.name: tissue.labels for tissue in data_set.tissues} }")
    return labels
