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
    """What `name_mapping.csv` and `survival_info.csv`, wherever below the source, say.

    Rows `patient` and FACTS, as text.

    A patient has a row for each of the names that he bears in BraTS 2017 to 2020. Where a table or a fact is missing,
    or a table can't be used, the text is empty. Besides FACTS: `own`, the name that he goes by in the tables.
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
    """The same, with every row that the tables have for a patient.

    Besides `patient` and FACTS: `own`, the name that the patient goes by in the tables, and `mapped` and `listed`:
    whether
    `name_mapping.csv` and `survival_info.csv` know him.

    Raises:
        ValueError: if a table can't be read or lacks a column.
    """
    mapping, survival = (_read(source, name) for name in ("name_mapping.csv", "survival_info.csv"))
    table = pd.DataFrame(columns=["patient", "own", "grade"], dtype=str)
    if mapping is not None:
        names = [column for column in mapping if column.endswith("_subject_ID")]
        _require(mapping, {"Grade", *([] if names else ["BraTS_2020_subject_ID"])}, "name_mapping.csv")
        table = mapping.rename(columns={"Grade": "grade"}).assign(own=_own_name(mapping[names]))
        table = table.melt(["grade", "own"], names, value_name="patient")[["patient", "own", "grade"]]
        table = table[table["patient"] != ""]
    if survival is None:
        survival = pd.DataFrame(columns=list(SURVIVAL_COLUMNS), dtype=str)
    _require(survival, set(SURVIVAL_COLUMNS), "survival_info.csv")
    survival = survival.rename(columns=SURVIVAL_COLUMNS)[list(SURVIVAL_COLUMNS.values())].rename(
        columns={"patient": "own"}
    )
    survival = survival[survival["own"] != ""]  # of rows that a spreadsheet leaves empty
    table = table.assign(mapped=True).merge(survival.assign(listed=True), "outer", on="own", sort=False)
    table["patient"] = table["patient"].fillna(table["own"])
    table[["mapped", "listed"]] = table[["mapped", "listed"]].notna()
    return (
        table.astype({"mapped": bool, "listed": bool})
        .fillna(dict.fromkeys(FACTS, ""))
        .astype(dict.fromkeys(["patient", "own", *FACTS], str))
    )


def _own_name(names: pd.DataFrame) -> pd.Series:
    """Of each row the name in BraTS 2020, by which survival is listed, or else in the newest that has one."""
    by_choice = sorted(
        names, key=lambda column: (column == "BraTS_2020_subject_ID", column.startswith("BraTS_"), column), reverse=True
    )
    return names[by_choice].replace("", pd.NA).bfill(axis=1).iloc[:, 0].fillna("")


def _require(table: pd.DataFrame, columns: set[str], name: str) -> None:
    twice = sorted(column for column in columns if f"{column}.1" in table.columns)  # as pandas calls a second one
    if twice:
        raise ValueError(f"{name} has two columns {' and '.join(twice)}; keep one")
    missing = sorted(columns - set(table.columns))
    if missing:
        what = f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise ValueError(
            f"{name} lacks {what}; it has {', '.join(table.columns)}: name them as BraTS does, or give it another name"
        )


def _read(source: Path, name: str) -> pd.DataFrame | None:
    """The table of this name below the source; None if there is none.

    Raises:
        ValueError: if there are several that differ, or it can't be read.
    """
    files = [file for file in list_files(source) if file.name.lower() == name]
    tables = [read_table(file).apply(lambda column: column.str.strip()).replace("NA", "") for file in files]
    if not tables:
        return None
    for file, table in zip(files[1:], tables[1:], strict=True):
        if not table.equals(tables[0]):
            raise ValueError(f"{files[0]} and {file} differ; keep the table that belongs to these patients")
    return tables[0]
