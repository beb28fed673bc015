"""The patient of each image, from a table of the user, or one that ships with the project.

The table of the Brain Tumor MRI Dataset matches its images with slices of figshare 1512427 (Cheng, CC BY 4.0), whose
patients are published. `published/README.md` describes how it was made and checked.
"""

import logging
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel

from brain_tumor.data.common.tables import read_table

logger = logging.getLogger(__name__)

PUBLISHED = Path(__file__).parent / "published"
"""Folder of the tables that ship with the project."""

MIN_MATCH = 0.95
"""Fraction of the files of a published table that a source must hold for the table to be its own."""

CONTRADICTS = "by the table of patients"
"""End of the reason or note of an image whose folder contradicts the table."""

REMEDY = "correct the table, or declare its columns under `data_classification.patients`"


class PatientSettings(BaseModel, frozen=True, extra="forbid"):
    """Columns of the table of patients, and what its classes are used for.

    Attributes:
        file: column of the image's path below the source, such as `Training/glioma/1.jpg`.
        patient: column of the patient.
        label: column of the class that the table gives the image; not needed.
        conflicts: what is done with an image whose folder contradicts the table: "keep" it in the class of its folder,
            "correct" its class, or "exclude" it.
    """

    file: str = "file"
    patient: str = "patient"
    label: str = "class"
    conflicts: Literal["keep", "correct", "exclude"] = "exclude"


def find_table(own: Path | None, index: pd.DataFrame) -> Path | None:
    """The table of patients of a source: its own, or else a published one whose files it has.

    Args:
        index: rows `file`, `folder` of the source.
    """
    if own is not None:
        return own
    here = set(locate(index))
    for table in sorted(PUBLISHED.glob("*.csv")):
        listed = pd.read_csv(table, usecols=["file"], dtype=str)["file"]
        if listed.isin(here).mean() >= MIN_MATCH:
            return table
    return None


def locate(index: pd.DataFrame) -> pd.Series:
    """The path of each image from its training or testing folder on: archives often hold one more folder above."""
    return pd.Series(
        [folder + file.partition(folder)[2] for file, folder in zip(index["file"], index["folder"], strict=True)],
        index.index,
        dtype=object,
    ).str.replace("\\", "/")


def read_patients(path: Path, settings: PatientSettings, classes: tuple[str, ...]) -> pd.DataFrame:
    """A table of patients: rows `file`, `patient`, `label` ("" where the table gives no class).

    Raises:
        ValueError: if it can't be read, lacks a column, names an image of two patients, or a class that isn't declared.
    """
    table = read_table(path).apply(lambda column: column.str.strip())
    missing = [name for name in (settings.file, settings.patient) if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {' and no column '.join(missing)}; {REMEDY}")
    label = table.get(settings.label, "")
    rows = pd.DataFrame({"file": table[settings.file], "patient": table[settings.patient]}).assign(label=label)
    # Paths of Windows.
    rows["file"] = rows["file"].str.replace("\\", "/")
    rows = rows[(rows["file"] != "") & (rows["patient"] != "")].drop_duplicates()
    twice = rows[rows.duplicated("file", keep=False)]
    if len(twice):
        file = twice["file"].iloc[0]
        said = twice.loc[twice["file"] == file, ["patient", "label"]].agg(" ".join, axis=1).str.strip()
        raise ValueError(
            f"{path} gives {file} to {' and to '.join(said)}; an image has one patient and class: {REMEDY}"
        )
    unknown = sorted(set(rows["label"]) - {"", *classes})
    if unknown:
        raise ValueError(f"{path} has the class {unknown[0]}, but the classes are {', '.join(classes)}; {REMEDY}")
    return rows


def add_patients(index: pd.DataFrame, table: pd.DataFrame, path: Path, settings: PatientSettings) -> pd.DataFrame:
    """The index with the column `patient` ("" where it is not known), and classes that contradict the table treated.

    Args:
        table: of `read_patients`.
        path: of the table, for messages.

    Raises:
        ValueError: if no file of the table is in the index.
    """
    located = locate(index)
    absent = sorted(set(table["file"]) - set(located))
    if len(absent) == len(table):
        example = f", such as {absent[0]}" if absent else ""
        raise ValueError(
            f"none of the {len(table)} files that {path} names is in the source{example}; their paths start with the "
            f"training or the testing folder, as in {located.iloc[0]}"
        )
    if absent:
        logger.warning("%s names %d files that aren't there, such as %s", path, len(absent), absent[0])
    merged = index.assign(located=located).merge(table.rename(columns={"file": "located"}), "left", on="located")
    merged[["patient", "label"]] = merged[["patient", "label"]].fillna("")
    differs = (merged["label"] != "") & (merged["label"] != merged["class"]) & (merged["excluded"] == "")
    said = "in the folder of " + merged["class"] + ", but " + merged["label"] + f" {CONTRADICTS}"
    if settings.conflicts == "exclude":
        merged.loc[differs, "excluded"] = said[differs]
    else:
        kept = "; its class is corrected" if settings.conflicts == "correct" else ""
        notes = merged.loc[differs, "note"]
        merged.loc[differs, "note"] = notes.where(notes == "", notes + "; ") + said[differs] + kept
    if settings.conflicts == "correct":
        merged.loc[differs, "class"] = merged.loc[differs, "label"]
    _warn_of_two_classes(merged)
    known = merged["patient"] != ""
    logger.info(
        "%d images of %d patients by %s; %d images have no patient there",
        known.sum(),
        merged.loc[known, "patient"].nunique(),
        path.name,
        (~known).sum(),
    )
    return merged.drop(columns=["located", "label"])


def _warn_of_two_classes(index: pd.DataFrame) -> None:
    used = index[(index["patient"] != "") & (index["excluded"] == "")]
    classes = used.groupby("patient")["class"].agg(lambda values: sorted(set(values)))
    for patient, several in classes[classes.map(len) > 1].items():
        logger.warning("patient %s has images of %s", patient, " and ".join(several))
