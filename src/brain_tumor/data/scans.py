"""Scans in a folder, in whichever of the published layouts: found, and read slice by slice."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from brain_tumor.data import hdf5_slices, nifti_volumes
from brain_tumor.data.declaration import DataSet
from brain_tumor.data.files import list_files
from brain_tumor.data.scan import WHOLE_PATIENT, Scan, Slice, Unreadable

LAYOUTS: dict[str, ModuleType] = {"nifti": nifti_volumes, "hdf5": hdf5_slices}
"""A patient who is there in both is taken from the first."""


def find_scans(folder: Path, data_set: DataSet) -> list[Scan]:
    """The scans below a folder, in the order of their patients' names. One that is there twice has a problem: the other is used.

    Raises:
        FileNotFoundError: if the folder isn't there, is empty, or holds no scan in a known layout.
    """
    remedy = "give the folder of the scans with `--params segmentation_source=PATH`"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; {remedy}")
    files = list_files(folder)
    if not files:
        raise FileNotFoundError(f"{folder} is empty; {remedy}")
    scans: list[Scan] = []
    used: dict[str, Scan] = {}
    for layout in LAYOUTS.values():
        for scan in layout.find(files, data_set):
            twice = _say_twice(scan, used[scan.patient]) if scan.patient in used else ""
            scans.append(replace(scan, problem=twice or scan.problem))
            if not scans[-1].problem:
                used[scan.patient] = scan
    if scans:
        return sorted(scans, key=lambda scan: scan.patient)
    endings = ", ".join(f"*_{ending}.nii.gz" for endings in data_set.volume_endings.values() for ending in endings)
    raise FileNotFoundError(
        f"{folder} holds {len(files)} files, but neither HDF5 slices named {data_set.slice_file} nor NIfTI volumes named {endings}; "
        f"{remedy}, or declare your own file names under `data_segmentation.data_set`"
    )


def _say_twice(scan: Scan, first: Scan) -> str:
    if scan.layout != first.layout:
        return f"the patient is there in layout {first.layout} too, which goes before {scan.layout}"
    return f"a patient of that name is in {first.files[0].parent} too, who goes before; if this is another one, give the files another name"


def read_slices(scan: Scan, data_set: DataSet, numbers: Collection[int] | None = None) -> Iterator[Slice | Unreadable]:
    """The slices of one patient (all, or those numbered), from the feet up; one that can't be used says why."""
    if scan.problem:
        yield Unreadable(WHOLE_PATIENT, scan.files[0], scan.problem)
    else:
        yield from LAYOUTS[scan.layout].read(scan, data_set, numbers)
