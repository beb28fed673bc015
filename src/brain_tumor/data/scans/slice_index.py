"""Index of slices: one row for each, with its content or why it is excluded; `SliceIndex` is its schema."""

import hashlib
import logging
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd

from brain_tumor.data.common.files import list_files
from brain_tumor.data.common.tables import read_table
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import find_scans, read_note, read_slices
from brain_tumor.data.scans.plausibility import PatientCheck
from brain_tumor.data.scans.preparation import find_brain
from brain_tumor.data.scans.scan import Scan, Slice, Unreadable

logger = logging.getLogger(__name__)

INSPECTION = 4
"""Raised when the same files would be described in another way.

What is remembered of older inspections is then not used.
"""


def inspect_scan(scan: Scan, data_set: DataSet, source: Path) -> pd.DataFrame:
    """Rows of the index for one patient: every slice is read once."""
    # NIfTI slices share the files of their volumes, HDF5 slices have one each.
    whole = "" if scan.layout == "hdf5" else _hash(*scan.files)
    check = PatientCheck(data_set.modality_names, skull_stripped=data_set.skull_stripped)
    rows = []
    for slice_ in read_slices(scan, data_set):
        file_hash = whole or _hash(slice_.file)
        rows.append(_describe(scan.patient, slice_, file_hash, data_set, source, check))
    table = pd.DataFrame(rows)
    # Only now: a patient's facts are complete after the last slice.
    problem = check.find_problem()
    if problem:
        table.loc[table["excluded"] == "", "excluded"] = problem
    usable = table["excluded"] == ""
    # Headers of files that can't be used may not even be readable.
    headers = read_note(scan) if usable.any() else ""
    notes = [note for note in (scan.note, headers, check.find_note()) if note]
    note = "; ".join(notes)
    return table.assign(note=usable.map(lambda is_usable: note if is_usable else ""))


def _describe(
    patient: str,
    slice_: Slice | Unreadable,
    file_hash: str,
    data_set: DataSet,
    source: Path,
    check: PatientCheck,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "patient": patient,
        "slice": slice_.number,
        "file": str(slice_.file.relative_to(source)),
        "hash": file_hash,
    }
    row |= {"voxel_mm3": 0.0, "brain_pixels": 0}
    row |= dict.fromkeys((f"{tissue}_pixels" for tissue in data_set.tissue_names), 0)
    if isinstance(slice_, Unreadable):
        return row | {"excluded": slice_.problem}
    brain = find_brain(slice_.image)
    check.add(slice_.image, brain, slice_.labels)
    row["voxel_mm3"] = prod(slice_.spacing)
    row["brain_pixels"] = int(brain.sum())
    for label, tissue in enumerate(data_set.tissue_names, start=1):
        inside = slice_.labels == label
        row[f"{tissue}_pixels"] = int(inside.sum())
    return row | {"excluded": "" if row["brain_pixels"] else "no brain in this slice"}


def list_places(scan: Scan, source: Path) -> frozenset[str]:
    """What the column `file` may hold of a scan: its files and their folders."""
    folders = {file.parent for file in scan.files}
    places = folders.union(scan.files)
    return frozenset(str(place.relative_to(source)) for place in places)


def find_indexed(index: pd.DataFrame, source: Path, data_set: DataSet) -> dict[str, Scan]:
    """Patient > their scan, of the patients with slices in use.

    Raises:
        ValueError: if the scan of one is gone.
    """
    used = index[index["excluded"] == ""]
    files = used.groupby("patient")["file"].agg(frozenset).to_dict()
    scans = {}
    for scan in find_scans(source, data_set, quiet=True):
        usable = not scan.problem or scan.spare
        # Of several scans of a patient, the one whose files are in the index.
        if usable and list_places(scan, source) & files.get(scan.patient, frozenset()):
            scans[scan.patient] = scan.in_use
    gone = sorted(set(files) - set(scans))
    if gone:
        raise ValueError(f"{', '.join(gone)} were in {source} when it was indexed, and aren't now; run again")
    return scans


def count_missing(index: pd.DataFrame, source: Path) -> tuple[int, int]:
    """How many slices `meta_data.csv` lists, and how many of them are not in the source: copies are often partial."""
    names: set[str] = set()
    for file in list_files(source):
        if file.name == "meta_data.csv":
            # By name alone: the table has the paths of the publisher's own folders.
            names |= {Path(path).name for path in _list_slices(file)}
    present = {Path(file).name for file in index["file"]}
    return len(names), len(names - present)


def _list_slices(table: Path) -> Iterable[str]:
    """The slices in a table; none if it is another one of that name."""
    try:
        return read_table(table).get("slice_path", [])
    except ValueError as error:
        logger.warning("excluded: %s", error)
        return []


def _hash(*files: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        for file in files:
            digest.update(file.read_bytes())
    except OSError:
        return ""  # it can't be read, which its row says
    return digest.hexdigest()
