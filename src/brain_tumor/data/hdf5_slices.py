"""BraTS 2020 as published in HDF5 slices: `image` (row, column, modality) and `mask` (row, column, tissue) in each file."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Num, UInt8

from brain_tumor.data.declaration import DataSet
from brain_tumor.data.hdf5_chunks import read_whole
from brain_tumor.data.scan import Scan, Slice, Unreadable


def find(files: list[Path], data_set: DataSet) -> list[Scan]:
    """The patients whose slices are among the files."""
    patients = defaultdict(list)
    for file in files:
        if data_set.slice_pattern.match(file.name):
            patient, number = _parse(file.name, data_set)
            patients[patient].append((number, file))
    return [Scan.of(patient, "hdf5", [file for _, file in sorted(slices)]) for patient, slices in patients.items()]


def _parse(name: str, data_set: DataSet) -> tuple[str, int]:
    """("BraTS20_Training_041", 70) from "volume_41_slice_70.h5"."""
    match = data_set.slice_pattern.match(name)
    assert match, name
    return data_set.slice_patient.format(volume=int(match["volume"])), int(match["slice"])


def read(scan: Scan, data_set: DataSet, numbers: Collection[int] | None = None) -> Iterator[Slice | Unreadable]:
    """The slices of one patient; see `brain_tumor.data.scans.read_slices`."""
    seen: dict[int, Path] = {}
    for file in scan.files:
        number = _parse(file.name, data_set)[1]
        first = seen.setdefault(number, file)
        if numbers is None and first != file:
            yield Unreadable(number, file, f"second file for slice {number} of {scan.patient}, {first} is used; remove one of them")
        elif first == file and (numbers is None or number in numbers):
            yield _read_slice(file, number, data_set)


def _read_slice(file: Path, number: int, data_set: DataSet) -> Slice | Unreadable:
    try:
        content = memoryview(file.read_bytes())
        with h5py.File(file) as datasets:
            image, mask = (read_whole(datasets[name], content) for name in ("image", "mask"))
        _check(image, mask, data_set)
    except Exception as error:  # a damaged file fails in many ways
        reason = str(error).strip("'\"")
        return Unreadable(number, file, f"unreadable HDF5 slice ({reason}); fetch the file again")
    return Slice(number, file, np.moveaxis(image, -1, 0), _labels(mask), data_set.spacing)


def _check(image: np.ndarray, mask: np.ndarray, data_set: DataSet) -> None:
    height_width = image.shape[:2]
    if image.shape != (*height_width, len(data_set.modalities)):
        raise ValueError(f"image must be (row, column, {len(data_set.modalities)} modalities), got {image.shape}")
    if mask.shape != (*height_width, len(data_set.tissues)):
        raise ValueError(f"mask must be (row, column, {len(data_set.tissues)} tissues) of the image's size, got {mask.shape}")
    if not np.isfinite(image).all():
        raise ValueError("image holds NaN or infinity")
    present = mask == 1
    if not (present | (mask == 0)).all() or np.count_nonzero(present) != np.count_nonzero(present.any(-1)):
        raise ValueError("mask must be 0 or 1, one tissue at most for each pixel")


def _labels(mask: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    labels = np.zeros(mask.shape[:2], np.uint8)
    for label in range(1, mask.shape[-1] + 1):
        labels[mask[..., label - 1] == 1] = label
    return labels


def write_slice(file: Path, image: Num[np.ndarray, "m h w"], labels: UInt8[np.ndarray, "h w"], tissues: int) -> None:
    """One slice the way the publisher wrote his: each modality standardised over the whole slice, background included."""
    planes = image.astype(np.float64)
    deviation = planes.std((1, 2), keepdims=True)
    planes = (planes - planes.mean((1, 2), keepdims=True)) / np.where(deviation > 0, deviation, 1)
    mask = np.stack([labels == label for label in range(1, tissues + 1)], axis=-1).astype(np.uint8)
    rows, columns = (max(1, side // 4) for side in labels.shape)
    with h5py.File(file, "w") as content:
        # Level 1 instead of the published 9: the same bytes once read, ten times as fast to write.
        content.create_dataset("image", data=np.moveaxis(planes, 0, -1), chunks=(rows, columns, 1), compression="gzip", compression_opts=1)
        content.create_dataset("mask", data=mask, chunks=(rows, columns, min(2, tissues)), compression="gzip", compression_opts=1)
