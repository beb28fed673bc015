"""BraTS 2020 in HDF5 slices: `image` (row, column, modality) and `mask` (row, column, tissue) in each file."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Num, Shaped, UInt8

from brain_tumor.data.common.file_kinds import KINDS, identify, is_gzip
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.hdf5_chunks import read_whole
from brain_tumor.data.scans.scan import Scan, Slice, Unreadable, Volume
from brain_tumor.data.scans.slice_spacing import find_step


def find(files: list[Path], data_set: DataSet, **_needed: bool) -> list[Scan]:
    """The patients whose slices are among the files, each of which holds all modalities and a mask."""
    patients = defaultdict(list)
    for file in files:
        if data_set.slice_pattern.match(file.name):
            patient, number = _parse(file.name, data_set)
            patients[patient].append((number, file))
    scans = []
    for patient, slices in patients.items():
        # By number, not by name: as text, slice 10 goes before slice 9.
        files_in_order = [file for _, file in sorted(slices)]
        names = [patient, *(file.name for _, file in slices)]
        tissues = data_set.tissues_of(names)
        scans.append(Scan.from_files(patient, "hdf5", files_in_order, tissues=tissues))
    return scans


def _parse(name: str, data_set: DataSet) -> tuple[str, int]:
    """("BraTS20_Training_041", 70) from "volume_41_slice_70.h5"."""
    match = data_set.slice_pattern.match(name)
    assert match, name
    # A number, so that a format such as `{volume:03d}` applies and leading zeros make no other patient.
    volume = int(match["volume"])
    number = int(match["slice"])
    patient = data_set.slice_patient.format(volume=volume)
    return patient, number


def read(scan: Scan, data_set: DataSet, numbers: Collection[int] | None = None) -> Iterator[Slice | Unreadable]:
    """The slices of one patient; see `brain_tumor.data.scans.find_scans.read_slices`."""
    seen: dict[int, Path] = {}
    for file in scan.files:
        _, number = _parse(file.name, data_set)
        first = seen.setdefault(number, file)
        wanted = numbers is None or number in numbers
        if first == file and wanted:
            yield _read_slice(file, number, data_set)
        elif first != file and numbers is None:
            # Reported once, when the whole patient is read.
            problem = f"second file for slice {number} of {scan.patient}, {first} is used; remove one of them"
            yield Unreadable(number, file, problem)


def read_image(scan: Scan, data_set: DataSet) -> Volume:
    """The slices of a patient stacked from the feet up, whether or not they hold a mask.

    BraTS's space if they are 240 x 240 at 1 mm.

    Raises:
        ValueError: if a slice can't be read, or two have one number or different sizes.
    """
    numbers, slices = _read_all(scan, data_set, "image")
    step = find_step(numbers, data_set.spacing[2])
    row_mm, column_mm, slice_mm = data_set.spacing
    # Rows run to the left and columns to the back, both against the axes of NIfTI.
    affine = np.diag([-row_mm, -column_mm, slice_mm * (step or 1), 1.0])
    # As in BraTS space, the last column lies at 0 mm, and so does slice 0.
    last_column = slices.shape[2] - 1
    affine[1:3, 3] = column_mm * last_column, slice_mm * numbers[0]
    # Without gaps there are as many slices as steps, and one more.
    has_gaps = step is None or len(numbers) <= np.ptp(numbers) // step
    note = ""
    if has_gaps:
        note = "its slices are not evenly spaced or too few for a volume: millilitres are those of the slices alone"
    # From (slice, row, column, modality) to (modality, row, column, slice).
    image = np.moveaxis(slices, (0, 3), (3, 0))
    return Volume(image, affine, note)


def read_note(scan: Scan) -> str:  # the same for every layout  # noqa: ARG001
    """Slices have no headers that could be unusual."""
    return ""


def read_labels(scan: Scan, data_set: DataSet) -> UInt8[np.ndarray, "h w d"] | None:
    """Labels of the slices, stacked as `read_image` does; None if they hold no masks.

    Raises:
        ValueError: if some slices hold a mask and others none, or a mask can't be used.
    """
    with_mask = [file for file in scan.files if _holds(file, "mask")]
    if not with_mask:
        return None
    lacking = len(scan.files) - len(with_mask)
    if lacking:
        raise ValueError(f"{lacking} of {len(scan.files)} slices hold no mask; add them")
    _, masks = _read_all(scan, data_set, "mask")
    return np.stack([_labels(mask) for mask in masks], axis=-1)


def _holds(file: Path, name: str) -> bool:
    try:
        with h5py.File(file) as datasets:
            return name in datasets
    except Exception:  # a damaged file: reading it says in which way
        return True


def _read_all(scan: Scan, data_set: DataSet, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the slices, and one of their arrays, stacked along a new first axis."""
    parsed = [_parse(file.name, data_set) for file in scan.files]
    numbers = np.array([number for _, number in parsed])
    # The files of a scan are in the order of their numbers, so equal ones are neighbours.
    repeated = numbers[:-1][np.diff(numbers) == 0]
    if repeated.size:
        raise ValueError(f"{scan.patient} has several files for slice {repeated[0]}; keep one")
    check = {"image": _check_image, "mask": _check_mask}[name]
    arrays = []
    for file in scan.files:
        array = _read_array(file, name)
        try:
            check(array, data_set)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
        arrays.append(array)
    if len({array.shape for array in arrays}) > 1:
        sizes = sorted({array.shape[:2] for array in arrays})
        raise ValueError(f"slices of {scan.patient} have different sizes: {sizes}; they must be of one scan")
    return numbers, np.stack(arrays)


def _read_array(file: Path, name: str) -> np.ndarray:
    try:
        content = memoryview(file.read_bytes())
        with h5py.File(file) as datasets:
            if name not in datasets:
                present = ", ".join(datasets) or "nothing"
                raise ValueError(f"{file.name} has no '{name}'; it holds {present}")
            array = datasets[name]
            if not isinstance(array, h5py.Dataset) or not array.shape:
                kind = "a group" if isinstance(array, h5py.Group) else "no array"
                raise ValueError(f"'{name}' in {file.name} is {kind}; store the array under that name")
            if array.dtype.kind not in "biuf":
                raise ValueError(f"'{name}' in {file.name} must hold real numbers, got {array.dtype}; write it as such")
            return read_whole(array, content)
    except ValueError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(_damaged(file, error)) from error


def _damaged(file: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{file.name} can't be read ({error.strerror}); check that the file is there and that you may read it"
    kind = identify(file)
    if kind == "hdf5" and is_gzip(file):
        return f"{file.name} is compressed with gzip; decompress it with `gunzip`"
    if kind in KINDS and kind != "hdf5":
        return f"{file.name} {KINDS[kind]}, not HDF5; fetch it again or remove it"
    return f"{file.name} can't be read ({error}): it is damaged or cut off; fetch it again"


def _read_slice(file: Path, number: int, data_set: DataSet) -> Slice | Unreadable:
    try:
        image = _read_array(file, "image")
        mask = _read_array(file, "mask")
        _check_image(image, data_set)
        _check_mask(mask, data_set)
        size, mask_size = image.shape[:2], mask.shape[:2]
        if size != mask_size:
            raise ValueError(f"image and mask must be of one size, got {size} and {mask_size}")
        labels = _labels(mask)
    except Exception as error:  # a damaged file fails in many ways
        return Unreadable(number, file, f"unusable HDF5 slice: {error}")
    modalities_first = np.moveaxis(image, -1, 0)
    return Slice(number, file, modalities_first, labels, data_set.spacing)


def _check_image(image: np.ndarray, data_set: DataSet) -> None:
    count = len(data_set.modalities)
    if image.shape != (*image.shape[:2], count):
        raise ValueError(f"image must be (row, column, {count} modalities), got {image.shape}")
    if not np.isfinite(image).all():
        raise ValueError("image holds NaN or infinity; replace them")


def _check_mask(mask: np.ndarray, data_set: DataSet) -> None:
    count = len(data_set.tissues)
    if mask.shape != (*mask.shape[:2], count):
        raise ValueError(f"mask must be (row, column, {count} tissues), got {mask.shape}")
    present = mask == 1
    binary = (present | (mask == 0)).all()
    # Where tissues overlap, more voxels are marked than pixels have a tissue.
    with_tissue = present.any(-1)
    overlap = np.count_nonzero(present) != np.count_nonzero(with_tissue)
    if not binary or overlap:
        raise ValueError("mask must be 0 or 1, one tissue at most for each pixel; relabel it")


def _labels(mask: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    labels = np.zeros(mask.shape[:2], np.uint8)
    for channel in range(mask.shape[-1]):
        # Label 0 is background, so the first channel has label 1.
        labels[mask[..., channel] == 1] = channel + 1
    return labels


def write_slice(
    file: Path,
    image: Num[np.ndarray, "m h w"],
    labels: UInt8[np.ndarray, "h w"],
    tissues: int,
) -> None:
    """One slice the way the publisher wrote them.

    Each modality standardised over the whole slice, background included.
    """
    planes = image.astype(np.float64)
    mean = planes.mean((1, 2), keepdims=True)
    deviation = planes.std((1, 2), keepdims=True)
    # A constant plane has deviation 0 and stays 0.
    planes = (planes - mean) / np.where(deviation > 0, deviation, 1)
    masks = [labels == label for label in range(1, tissues + 1)]
    write_arrays(file, planes, np.stack(masks, axis=-1))


def write_arrays(file: Path, planes: Num[np.ndarray, "m h w"], mask: Shaped[np.ndarray, "h w k"]) -> None:
    """One slice in the published layout, intensities as they are."""
    height, width, tissues = mask.shape
    # Chunks as published: a quarter of each side, one modality, two tissues.
    rows, columns = max(1, height // 4), max(1, width // 4)
    with h5py.File(file, "w") as content:
        # Level 1 instead of the published 9: the same bytes once read, ten times as fast to write.
        content.create_dataset(
            "image",
            data=np.moveaxis(planes, 0, -1),
            chunks=(rows, columns, 1),
            compression="gzip",
            compression_opts=1,
        )
        content.create_dataset(
            "mask",
            data=mask.astype(np.uint8),
            chunks=(rows, columns, min(2, tissues)),
            compression="gzip",
            compression_opts=1,
        )
