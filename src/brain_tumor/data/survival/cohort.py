"""The survival cohort: clinical facts and shape features of each patient, or the reason why one is excluded."""

import re

import numpy as np
import pandas as pd

from brain_tumor.data.scans.clinical_tables import FACTS
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.survival.shape_features import FEATURES

GTR = "GTR"
"""Gross total resection: the whole visible tumour was removed."""


def _group_features() -> dict[str, list[str]]:
    groups = {"age": ["age"], "resection": ["gtr"], "grade": ["hgg"]}
    for feature in FEATURES:
        groups.setdefault(feature.group, []).append(feature.name)
    return groups


GROUPS = _group_features()
"""Group of features > names of its columns."""

SHAPE = [feature.name for feature in FEATURES]
"""Names of the shape features."""

FEATURE_SETS: dict[str, list[str]] = {
    "intercept-only": [],
    "age": ["age"],
    "shape": SHAPE,
    "age + shape": ["age", *SHAPE],
    "all": ["age", "gtr", "hgg", *SHAPE],
}
"""Name of a set of features > its columns; "intercept-only" is the null model."""

MAX_AGE = 120
"""Years; a larger number in the table is a mistake."""

ALIVE = re.compile(r"alive\s*\(\s*(\d+)\s*days? later\s*\)", re.IGNORECASE)


def parse_days(text: str) -> tuple[float, bool, str]:
    """Days, whether death was observed (False: censored), and the problem if there is one.

    >>> parse_days("ALIVE (361 days later)")
    (361.0, False, '')
    """
    if not text:
        return np.nan, False, "survival is unknown"
    alive = ALIVE.fullmatch(text)
    number = alive[1] if alive else text
    days = _number(number)
    # NaN of a text that is no number fails the comparison too.
    if not 0 < days < np.inf:
        rule = "days must be a number above 0 or 'ALIVE (N days later)'"
        return np.nan, False, f"{rule}, got '{text}'; correct survival_info.csv"
    return days, alive is None, ""


def parse_age(text: str) -> tuple[float, str]:
    """Years, NaN if unknown, and a note in that case."""
    years = _number(text)
    if 0 < years <= MAX_AGE:
        return years, ""
    note = f"age not known ('{text}' in the table)" if text else "age not known"
    return np.nan, note


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def join_patients(features: pd.DataFrame, rows: pd.DataFrame, data_set: DataSet) -> pd.DataFrame:
    """Facts and features of each patient with a mask or a survival; `excluded` has a reason, `note` a caution.

    `person` is the same for all names and visits of one person.

    A person with several visits or names counts once: the first usable one, preferably one whose survival is listed.

    Args:
        features: of `brain_tumor.data.survival.tumour_masks`.
        rows: of `read_clinical_rows`.
        data_set: its `person` pattern joins the visits of one person.
    """
    aliases = dict(zip(rows["patient"], rows["own"], strict=True))
    # Copies of a row do no harm; rows that differ in a fact are kept, to be refused.
    distinct = rows.drop_duplicates(["own", "mapped", "listed", *FACTS])
    known = dict(iter(distinct.groupby("own")))
    has_survival = {own for own, facts in known.items() if facts["listed"].any()}
    measured = features.set_index("patient")
    # Patients that the tables don't list keep the name of their files.
    names = [aliases.get(patient, patient) for patient in measured.index]
    owns = pd.Series(names, measured.index, dtype=object)
    persons = owns.map(data_set.find_person)
    listed = owns.isin(has_survival)
    usable = persons[measured["excluded"] == ""]
    # Listed patients first: of a person's names, the one with a survival is worth most.
    preferred = pd.concat([usable[listed], usable[~listed]]).drop_duplicates()
    first = {person: patient for patient, person in preferred.items()}
    entries = []
    for patient, own in owns.items():
        used = first.get(persons[patient], patient)
        same = _explain_same_person(patient, used)
        entries.append(_facts(patient, known.get(own), same) | {"person": persons[patient]})
    for own in sorted(has_survival - set(owns)):
        facts = _facts(own, known[own], "no mask of this patient")
        entries.append(facts | {"person": data_set.find_person(own)})
    measurements = features.rename(columns={"excluded": "problem"})
    table = pd.DataFrame(entries).merge(measurements, "left", on="patient")
    # A reason of the mask goes before one of the clinical facts.
    problem = table.pop("problem").fillna("")
    table["excluded"] = problem.where(problem != "", table["excluded"])
    table["simulated"] = bool(features["simulated"].any())
    # Patients without a mask have no row of features.
    table = table.fillna({"file": "", "spacing_mm": "", "centre_from": ""})
    return table.sort_values("patient", ignore_index=True)


def _explain_same_person(patient: str, used: str) -> str:
    if patient == used:
        return ""
    return f"the same person as {used}, who is used; keep one mask"


def _facts(patient: str, rows: pd.DataFrame | None, problem: str) -> dict[str, str | float | bool]:
    """Clinical facts of one patient, from the rows of the tables that are about that patient."""
    row = dict.fromkeys(FACTS, "")
    if rows is not None:
        row = rows.iloc[0].to_dict()
    days, observed, wrong = parse_days(row["survival_days"])
    age, note = parse_age(row["age"])
    if rows is None or not rows["listed"].any():
        wrong, note = "not in survival_info.csv", ""
    elif len(rows) > 1:
        wrong = f"{len(rows)} rows that differ in the tables; keep the true one"
    elif not rows["mapped"].any():
        note = "; ".join(filter(None, [note, "not in name_mapping.csv: grade unknown"]))
    facts: dict[str, str | float | bool] = {
        "patient": patient,
        "grade": row["grade"],
        "age": age,
        "resection": row["resection"],
        "days": days,
        "observed": observed,
    }
    return facts | {"excluded": problem or wrong, "note": note}


def design(patients: pd.DataFrame) -> pd.DataFrame:
    """Design matrix, a row for each patient: age, resection and grade as numbers, and shape features.

    Volumes and surfaces are log(1 + x): they are skewed over two orders of magnitude.
    """
    table = patients[["age", *SHAPE]].astype(float)
    skewed = [feature.name for feature in FEATURES if feature.unit in ("ml", "cm²")]
    # log(1 + x), because a region may be empty.
    table[skewed] = np.log1p(table[skewed])
    is_gtr = patients["resection"] == GTR
    table.insert(1, "gtr", is_gtr.astype(float))
    # An unknown grade becomes NaN, unlike an unknown resection.
    is_high_grade = patients["grade"].map({"HGG": 1.0, "LGG": 0.0})
    table.insert(2, "hgg", is_high_grade)
    return table
