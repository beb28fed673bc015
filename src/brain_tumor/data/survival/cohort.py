"""Patients as the survival models see them: facts and features side by side, and why a patient is left out."""

import re

import numpy as np
import pandas as pd

from brain_tumor.data.scans.clinical_tables import FACTS
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.survival.shape_features import FEATURES

GTR = "GTR"
"""Gross total resection: the tumour was removed as far as could be seen."""

GROUPS = {"age": ["age"], "resection": ["gtr"], "grade": ["hgg"]} | {
    group: [feature.name for feature in FEATURES if feature.group == group]
    for group in dict.fromkeys(feature.group for feature in FEATURES)
}
"""Features of one kind > their names."""

SHAPE = [feature.name for feature in FEATURES]
"""What the mask says."""

FEATURE_SETS: dict[str, list[str]] = {
    "intercept-only": [],
    "age": ["age"],
    "shape": SHAPE,
    "age + shape": ["age", *SHAPE],
    "all": ["age", "gtr", "hgg", *SHAPE],
}
"""What a model may look at."""

OLDEST = 120
ALIVE = re.compile(r"alive\s*\(\s*(\d+)\s*days? later\s*\)", re.IGNORECASE)


def parse_days(text: str) -> tuple[float, bool, str]:
    """Days, whether death was seen, and the problem if there is one.

    >>> parse_days("ALIVE (361 days later)")
    (361.0, False, '')
    """
    if not text:
        return np.nan, False, "survival isn't known"
    alive = ALIVE.fullmatch(text)
    days = _number(alive[1] if alive else text)
    if not 0 < days < np.inf:
        return (
            np.nan,
            False,
            f"days must be a number above 0 or 'ALIVE (N days later)', got '{text}'; correct survival_info.csv",
        )
    return days, alive is None, ""


def parse_age(text: str) -> tuple[float, str]:
    """Years, and a note if they aren't known."""
    years = _number(text)
    if 0 < years <= OLDEST:
        return years, ""
    return np.nan, f"age not known ('{text}' in the table)" if text else "age not known"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def join_patients(features: pd.DataFrame, rows: pd.DataFrame, data_set: DataSet) -> pd.DataFrame:
    """A row for each patient who has a mask or a survival.

    Facts, features, and `excluded` with the reason or `note` with a caution.

    Of several visits of a person, or several names, the first that can be used is: one whose survival is listed, if
    there is.

    Args:
        features: as `brain_tumor.data.survival.tumour_masks` measures them.
        rows: as `read_clinical_rows` gives them.
        data_set: says which names are visits of one person.
    """
    aliases = dict(zip(rows["patient"], rows["own"], strict=True))
    known = dict(iter(rows.drop_duplicates(["own", "mapped", "listed", *FACTS]).groupby("own")))
    measured = features.set_index("patient")
    owns = pd.Series([aliases.get(patient, patient) for patient in measured.index], measured.index, dtype=object)
    persons = owns.map(data_set.find_person)
    listed = owns.map(lambda own: own in known and bool(known[own]["listed"].any())).astype(bool)
    usable = persons[measured["excluded"] == ""]
    first = {
        person: patient for patient, person in pd.concat([usable[listed], usable[~listed]]).drop_duplicates().items()
    }
    unmeasured = sorted(own for own, found in known.items() if found["listed"].any() and own not in set(owns))
    entries = [
        _facts(patient, known.get(own), _say_same(patient, first.get(persons[patient], patient)))
        for patient, own in owns.items()
    ]
    entries += [_facts(own, known[own], "no mask of this patient") for own in unmeasured]
    table = pd.DataFrame(entries).merge(features.rename(columns={"excluded": "problem"}), "left", on="patient")
    problem = table.pop("problem").fillna("")
    table["excluded"] = problem.where(problem != "", table["excluded"])
    table["simulated"] = bool(features["simulated"].any())
    return table.fillna({"file": "", "spacing_mm": "", "centre_from": ""}).sort_values("patient", ignore_index=True)


def _say_same(patient: str, used: str) -> str:
    return f"the same person as {used}, who is used; keep one mask" if patient != used else ""


def _facts(patient: str, found: pd.DataFrame | None, problem: str) -> dict[str, str | float | bool]:
    """What the tables say of one patient."""
    row = dict.fromkeys(FACTS, "") if found is None else found.iloc[0].to_dict()
    days, observed, wrong = parse_days(row["survival_days"])
    age, note = parse_age(row["age"])
    if found is None or not found["listed"].any():
        wrong, note = "not in survival_info.csv", ""
    elif len(found) > 1:
        wrong = f"{len(found)} rows that differ in the tables; keep the true one"
    elif not found["mapped"].any():
        note = "; ".join(part for part in (note, "not in name_mapping.csv: grade not known") if part)
    facts = {
        "patient": patient,
        "grade": row["grade"],
        "age": age,
        "resection": row["resection"],
        "days": days,
        "observed": observed,
    }
    return facts | {"excluded": problem or wrong, "note": note}


def design(patients: pd.DataFrame) -> pd.DataFrame:
    """What models look at, a row for each patient: age, resection and grade as numbers, features.

    Volumes and surfaces as log(1 + x).
    """
    table = patients[["age", *SHAPE]].astype(float)
    skewed = [feature.name for feature in FEATURES if feature.unit in ("ml", "cm²")]
    table[skewed] = np.log1p(table[skewed])
    table.insert(1, "gtr", (patients["resection"] == GTR).astype(float))
    table.insert(2, "hgg", patients["grade"].map({"HGG": 1.0, "LGG": 0.0}))
    return table
