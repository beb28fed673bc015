"""What reports and cards show of the data: sets, and what was excluded."""

import pandas as pd

from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION

NOTHING = "Nothing: every file could be read, and every slice shows brain."


def write_answer(patients: pd.DataFrame, index: pd.DataFrame) -> str:
    """How many slices of how many patients are in use, and how many are excluded."""
    used = int((index["excluded"] == "").sum())
    return f"{used:,} slices of {len(patients):,} patients are in use; {len(index) - used:,} are excluded"


def write_missing(missing: tuple[int, int]) -> str:
    """Slices that the published list names, and how many of them are not there."""
    return f"the published list names {missing[0]:,} slices, of which {missing[1]:,} are not in this copy"


def count_sets(patients: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Patients, slices, tumour and grades of each set."""
    table = splits.merge(patients, on="patient")
    table["grade"] = table["grade"].replace("", "not known")
    summaries = {"patients": ("patient", "size"), "slices": ("slices", "sum")}
    # A name with a comma in it can't be a keyword.
    counts = table.groupby("split").agg(**summaries, **{"median tumour, ml": ("tumour_ml", "median")})
    # Columns of grades come where any grade is known.
    if (patients["grade"] != "").any():
        counts = counts.join(table.groupby(["split", "grade"]).size().unstack(fill_value=0))
    # Grouping sorts sets by name.
    return counts.reindex([TRAIN, VALIDATION, TEST]).reset_index()


def count_used(index: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Patients and slices in each set, from the index alone."""
    used = index[index["excluded"] == ""].merge(splits, on="patient")
    counts = used.groupby("split").agg(patients=("patient", "nunique"), slices=("slice", "size"))
    # All slices of a set may be excluded, which then has no row.
    return counts.reindex([TRAIN, VALIDATION, TEST], fill_value=0).reset_index()


def count_excluded(index: pd.DataFrame) -> pd.DataFrame:
    """Rows of the index that are not used, by reason."""
    excluded = index[index["excluded"] != ""]
    reasons = excluded.groupby("excluded").agg(
        rows=("slice", "size"),
        patients=("patient", "nunique"),
        example=("file", "first"),
    )
    return reasons.reset_index().rename(columns={"excluded": "reason"})


def count_notes(index: pd.DataFrame) -> pd.DataFrame:
    """What is unusual about patients in use, and how many have it."""
    noted = index[index["note"] != ""]
    # Of patients and not of slices: each slice of a patient has the note.
    notes = noted.groupby("note").agg(patients=("patient", "nunique"), example=("patient", "first"))
    return notes.reset_index()


def explain_volumes(patients: pd.DataFrame) -> str:
    """What millilitres are of; empty where the slices of all patients make volumes."""
    alone = int((patients["slice_step"] == 0).sum())
    if not alone:
        return ""
    which = (
        f"The slices of {alone:,} of {len(patients):,} patients make no volume (too few, too far apart or not "
        "evenly spaced)"
    )
    return f"{which}: their millilitres are of the slices alone."
