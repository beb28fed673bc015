"""Facts about patients from the tables published with BraTS: grade, age, survival, resection."""

import logging
from pathlib import Path

import pandas as pd

from brain_tumor.data.common.files import list_files
from brain_tumor.data.common.tables import read_table

logger = logging.getLogger(__name__)

FACTS = ("grade", "age", "survival_days", "resection")

SURVIVAL_COLUMNS = {
    "Brats20ID": "patient",
    "Age": "age",
    "Survival_days": "survival_days",
    "Extent_of_Resection": "resection",
}


def read_clinical(source: Path) -> pd.DataFrame:
    """Facts of `name_mapping.csv` and `survival_info.csv`, wherever they lie below the source.

    Returns:
        Rows `patient`, `own` (the name in the tables) and FACTS, as text; a row for each name of a patient in BraTS
        2017 to 2020. The text is empty where a table or a fact is missing, or a table can't be used.
    """
    try:
        table = read_clinical_rows(source)
    except ValueError as error:
        logger.warning("grades, ages and survival are left empty: %s", error)
        table = pd.DataFrame(columns=["patient", "own", *FACTS], dtype=str)
    for row in table[table.duplicated("patient")].itertuples():
        logger.warning("two rows for patient %s in the published tables; the first is used", row.patient)
    return table.drop_duplicates("patient")[["patient", "own", *FACTS]]


def read_clinical_rows(source: Path) -> pd.DataFrame:
    """Every row of the tables, with `mapped` and `listed`: whether `name_mapping.csv` and `survival_info.csv` have it.

    Other columns are those of `read_clinical`.

    Raises:
        ValueError: if a table can't be read or lacks a column.
    """
    mapping = _read(source, "name_mapping.csv")
    survival = _read(source, "survival_info.csv")
    names = _list_names(mapping).assign(mapped=True)
    survivals = _list_survivals(survival).assign(listed=True)
    # Either table may lack patients of the other: an outer join keeps both.
    table = names.merge(survivals, "outer", on="own", sort=False)
    table["patient"] = table["patient"].fillna(table["own"])
    # The join leaves NaN where a table has no row of the patient.
    table[["mapped", "listed"]] = table[["mapped", "listed"]].notna()
    table = table.astype({"mapped": bool, "listed": bool})
    table = table.fillna(dict.fromkeys(FACTS, ""))
    return table.astype(dict.fromkeys(["patient", "own", *FACTS], str))


def _list_names(mapping: pd.DataFrame | None) -> pd.DataFrame:
    """Rows `patient`, `own` and `grade`: one for each name that a patient has in a year of BraTS."""
    columns = ["patient", "own", "grade"]
    if mapping is None:
        return pd.DataFrame(columns=columns, dtype=str)
    names = [column for column in mapping if column.endswith("_subject_ID")]
    required = {"Grade"} if names else {"Grade", "BraTS_2020_subject_ID"}
    _require(mapping, required, "name_mapping.csv")
    table = mapping.rename(columns={"Grade": "grade"})
    table = table.assign(own=_own_name(mapping[names]))
    table = table.melt(["grade", "own"], names, value_name="patient")[columns]
    # A patient has no name in the years that they were not part of.
    return table[table["patient"] != ""]


def _list_survivals(survival: pd.DataFrame | None) -> pd.DataFrame:
    """Rows `own`, `age`, `survival_days` and `resection`."""
    if survival is None:
        survival = pd.DataFrame(columns=list(SURVIVAL_COLUMNS), dtype=str)
    _require(survival, set(SURVIVAL_COLUMNS), "survival_info.csv")
    table = survival.rename(columns=SURVIVAL_COLUMNS)[list(SURVIVAL_COLUMNS.values())]
    table = table.rename(columns={"patient": "own"})
    # A spreadsheet leaves empty rows at the end of a table.
    return table[table["own"] != ""]


def _own_name(names: pd.DataFrame) -> pd.Series:
    """Of each row the name in BraTS 2020, by which survival is listed, or else in the newest that has one."""

    def preference(column: str) -> tuple[bool, bool, str]:
        # TCIA's names have a column too; those of BraTS sort by year.
        return column == "BraTS_2020_subject_ID", column.startswith("BraTS_"), column

    by_choice = sorted(names, key=preference, reverse=True)
    # After the fill from right to left, the first column has the most preferred name of each row.
    filled = names[by_choice].replace("", pd.NA).bfill(axis=1)
    return filled.iloc[:, 0].fillna("")


def _require(table: pd.DataFrame, columns: set[str], name: str) -> None:
    # pandas renames a second column `Age` to `Age.1`.
    twice = sorted(column for column in columns if f"{column}.1" in table.columns)
    if twice:
        raise ValueError(f"{name} has two columns {' and '.join(twice)}; keep one")
    missing = sorted(columns - set(table.columns))
    if missing:
        plural = "s" if len(missing) > 1 else ""
        what = f"the column{plural} {', '.join(missing)}"
        present = ", ".join(table.columns)
        raise ValueError(f"{name} lacks {what}; it has {present}: name them as BraTS does, or give it another name")


def _read(source: Path, name: str) -> pd.DataFrame | None:
    """The table of this name below the source; None if there is none.

    Raises:
        ValueError: if there are several that differ, or it can't be read.
    """
    files = [file for file in list_files(source) if file.name.lower() == name]
    tables = [_clean(read_table(file)) for file in files]
    if not tables:
        return None
    first = tables[0]
    # Identical copies in several folders do no harm.
    for file, table in zip(files[1:], tables[1:], strict=True):
        if not table.equals(first):
            raise ValueError(f"{files[0]} and {file} differ; keep the table that belongs to these patients")
    return first


def _clean(table: pd.DataFrame) -> pd.DataFrame:
    """The same text without spaces around it, and empty where BraTS has `NA`, as for an unknown resection."""
    stripped = table.apply(lambda column: column.str.strip())
    return stripped.replace("NA", "")
