"""Facts about patients from the tables published with BraTS: grade, age, survival, resection."""

import logging
from pathlib import Path

import pandas as pd

logger = logging.getLogger(__name__)

FACTS = ("grade", "age", "survival_days", "resection")

SURVIVAL_COLUMNS = {"Brats20ID": "patient", "Age": "age", "Survival_days": "survival_days", "Extent_of_Resection": "resection"}


def read_clinical(source: Path) -> pd.DataFrame:
    """What `name_mapping.csv` and `survival_info.csv`, wherever below the source, say: rows `patient` and FACTS, as text.

    A patient has a row for each of the names that he bears in BraTS 2017 to 2020. Where a table or a fact is missing the text is empty.
    """
    table = read_clinical_rows(source)
    for row in table[table.duplicated("patient")].itertuples():
        logger.warning("two rows for patient %s in the published tables; the first is used", row.patient)
    return table.drop_duplicates("patient")[["patient", *FACTS]]


def read_clinical_rows(source: Path) -> pd.DataFrame:
    """The same, with every row that the tables have for a patient.

    Besides `patient` and FACTS: `own`, the name that the patient goes by in the tables, and `mapped` and `listed`: whether
    `name_mapping.csv` and `survival_info.csv` know him.

    Raises:
        ValueError: if a table lacks a column.
    """
    mapping, survival = (_read(source, name) for name in ("name_mapping.csv", "survival_info.csv"))
    table = pd.DataFrame(columns=["patient", "own", "grade"], dtype=str)
    if mapping is not None:
        _require(mapping, {"Grade", "BraTS_2020_subject_ID"}, "name_mapping.csv")
        names = [column for column in mapping if column.endswith("_subject_ID")]
        table = mapping.rename(columns={"Grade": "grade"}).assign(own=mapping["BraTS_2020_subject_ID"])
        table = table.melt(["grade", "own"], names, value_name="patient")[["patient", "own", "grade"]]
        table = table[table["patient"] != ""]
    if survival is None:
        survival = pd.DataFrame(columns=list(SURVIVAL_COLUMNS), dtype=str)
    _require(survival, set(SURVIVAL_COLUMNS), "survival_info.csv")
    survival = survival.rename(columns=SURVIVAL_COLUMNS)[list(SURVIVAL_COLUMNS.values())].rename(columns={"patient": "own"})
    table = table.assign(mapped=True).merge(survival.assign(listed=True), "outer", on="own", sort=False)
    table["patient"] = table["patient"].fillna(table["own"])
    table[["mapped", "listed"]] = table[["mapped", "listed"]].notna()
    return table.astype({"mapped": bool, "listed": bool}).fillna(dict.fromkeys(FACTS, "")).astype(dict.fromkeys(["patient", "own", *FACTS], str))


def _require(table: pd.DataFrame, columns: set[str], name: str) -> None:
    missing = sorted(columns - set(table.columns))
    if missing:
        raise ValueError(f"{name} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; it has {', '.join(table.columns)}")


def _read(source: Path, name: str) -> pd.DataFrame | None:
    files = sorted(source.rglob(name))
    if not files:
        return None
    table = pd.read_csv(files[0], dtype=str, keep_default_na=False)
    return table.apply(lambda column: column.str.strip()).replace("NA", "")
