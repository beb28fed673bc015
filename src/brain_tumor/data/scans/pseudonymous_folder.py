"""A folder of scans once more, with pseudonyms in place of names: links to the files, and tables.

What reads scans reads these, and never sees a name, so that none gets into a table, a message or the name of a file.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from brain_tumor.data.common.files import SIMULATED_MARK, is_simulated, list_files
from brain_tumor.data.common.links import write_links
from brain_tumor.data.common.pseudonyms import Pseudonyms, find_kind
from brain_tumor.data.common.tables import read_table
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.patient_files import CONTENT_FOLDERS, cut_suffix, name_patients

logger = logging.getLogger(__name__)

TABLES = ("name_mapping.csv", "survival_info.csv")
"""Published tables of patients, in lower case."""

COLUMNS = r"\w+_subject_ID|Brats20ID"
"""Pattern of their columns that hold names of patients."""

NO_NAME = ("", "NA")
"""In these columns: the patient has none."""

LISTING = "meta_data.csv"
"""A published table of slices, whose files have numbers."""


def make_pseudonymous(folder: Path, target: Path, names: Pseudonyms, data_set: DataSet) -> Path:
    """Links to all files of a folder, below a folder without a name; gives that folder.

    HDF5 slices keep their numbers, and patients the names that published slices have.
    Folders that say what lies in them (`images`, `t1ce`) keep their names.

    Args:
        target: where such folders are; what lies in this one's and isn't in `folder` any more is removed.
    """
    if not folder.is_dir():
        return folder
    root = names.name_folder(folder, target)
    files = list_files(folder)
    patients = name_patients(files, data_set)
    numbered = {
        data_set.slice_patient.format(volume=int(match["volume"]))
        for file in files
        if (match := data_set.slice_pattern.match(file.name))
    }
    kept = {*CONTENT_FOLDERS, *data_set.kind_of_folder}

    def replace(name: str) -> str:
        # Whose slices are read beside these, from a published set, keeps the name there.
        return name if name in numbered or data_set.is_published(name) else names.replace(name)

    links, texts = {}, {}
    for file in files:
        above = file.parent.relative_to(folder).parts
        place = root.joinpath(*(part if part.lower() in kept else replace(part) for part in above))
        if file.name.lower() in TABLES:
            text = _rewrite_table(file, replace, numbered)
            if text is not None:
                texts[place / file.name.lower()] = text
        elif file.name != SIMULATED_MARK:
            links[place / _rename(file, patients.get(file, ""), names, replace, data_set)] = file
    if is_simulated(folder):
        texts[root / SIMULATED_MARK] = ""
    write_links(root, links, texts)
    names.save()
    return root


def _rename(file: Path, patient: str, names: Pseudonyms, replace: Callable[[str], str], data_set: DataSet) -> str:
    if file.name == LISTING or data_set.slice_pattern.match(file.name):
        return file.name
    stem = cut_suffix(file)
    ending = file.name[len(stem) :]
    if patient:
        # P1/t1ce.nii.gz is named by its modality alone; else the name begins with the patient's.
        rest = f"_{stem}" if stem.lower() in data_set.kind_of_suffix else stem[len(patient) :]
        return f"{replace(patient)}{rest}{ending}"
    if stem:
        return f"{replace(stem)}{ending}"
    return f"file_{names.digest(file.name)}{find_kind(file)}"


def _rewrite_table(file: Path, replace: Callable[[str], str], numbered: set[str]) -> str | None:
    """A table with pseudonyms in its columns of names; rows of patients who keep their numbers stay as they are."""
    try:
        table = read_table(file)
    except ValueError as error:
        logger.warning("passed over: %s", error)
        return None
    columns = [column for column in table if re.fullmatch(COLUMNS, column)]
    known = table[columns].isin(numbered).any(axis=1)
    for column in columns:
        replaced = [name if name.strip() in NO_NAME else replace(name.strip()) for name in table[column]]
        table[column] = table[column].where(known, replaced)
    return table.to_csv(index=False)
