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
    mapping, survival = (_read(source, name) for name in ("name_mapping.csv", "survival_info.csv"))
    table = pd.DataFrame(columns=["patient", *FACTS], dtype=str)
    if mapping is not None:
        names = [column for column in mapping if column.endswith("_subject_ID")]
        table = mapping.rename(columns={"Grade": "grade"}).assign(own=mapping[names[-1]]).melt(["grade", "own"], names, value_name="patient")
        table = table[table["patient"] != ""]
    if survival is not None:
        survival = survival.rename(columns=SURVIVAL_COLUMNS)[list(SURVIVAL_COLUMNS.values())]
        table = table.merge(survival.rename(columns={"patient": "own"}), "left", on="own") if "own" in table else survival
    for row in table[table.duplicated("patient")].itertuples():
        logger.warning("two rows for patient %s in the published tables; the first is used", row.patient)
    return table.drop_duplicates("patient").reindex(columns=["patient", *FACTS]).astype(object).fillna("").astype(str)


def _read(source: Path, name: str) -> pd.DataFrame | None:
    files = sorted(source.rglob(name))
    return pd.read_csv(files[0], dtype=str, keep_default_na=False).replace("NA", "") if files else None
