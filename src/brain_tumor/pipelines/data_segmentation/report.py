"""What the report on segmentation data says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.split import TEST, TRAIN, VALIDATION
from brain_tumor.figures.report import Picture, Section, render_report

CAPTIONS = {
    "1_patients": "Patients of each grade, and the volume of each tissue in each patient (a dot); the bar is the median.",
    "2_heights": "Slices in use at each height, and how many of them show each tissue.",
    "3_histograms": "Standardised intensities of healthy brain and of each tissue in slices with tumour.",
    "4_montage": "The slice with most tumour of some patients, in the first modality.",
    "5_slices": "All slices in use of one patient, from the feet up: two modalities, then the tissues in colour.",
}


def compose_data_report(
    patients: pd.DataFrame, index: pd.DataFrame, splits: pd.DataFrame, about: Mapping[str, Any], missing: tuple[int, int], figures: Mapping[str, bytes]
) -> str:
    """The page: what there is, what was left out, how it is split.

    Args:
        about: the description of the prepared store.
        missing: slices that the published list names, and how many of them are not there.
        figures: name > PNG or GIF.
    """
    used = index[index["left_out"] == ""]
    name = about["data_set"] + (" (SIMULATED)" if about["simulated"] else "")
    answer = f"{len(used):,} slices of {len(patients):,} patients are in use; {len(index) - len(used):,} are left out."
    if missing[1]:
        answer += f" The published list names {missing[0]:,} slices, of which {missing[1]:,} are not in this copy."
    pictures = [Picture(content, CAPTIONS[figure]) for figure, content in figures.items()]
    left_out = index[index["left_out"] != ""].groupby("left_out").agg(rows=("slice", "size"), patients=("patient", "nunique"), example=("file", "first"))
    tables = [("What was left out, and why", left_out.reset_index().rename(columns={"left_out": "reason"}))] if len(left_out) else []
    sections = [
        Section("What was left out", "" if tables else "Nothing: every file could be read, and every slice shows brain.", tables),
        Section("Sets", "By patient; grades and tumour volumes are spread evenly.", [("Patients in each set", _sets(patients, splits))]),
        Section("What there is", f"Modalities {', '.join(about['modalities'])}; {about['standardisation']}.", [], pictures),
    ]
    return render_report(f"Data: {name}", answer, sections, simulated=about["simulated"])


def _sets(patients: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    table = splits.merge(patients, on="patient")
    table["grade"] = table["grade"].replace("", "not known")
    counts = table.groupby("split").agg(patients=("patient", "size"), slices=("slices", "sum"), median_tumour_ml=("tumour_ml", "median"))
    grades = table.groupby(["split", "grade"]).size().unstack(fill_value=0)
    return counts.join(grades).reindex([TRAIN, VALIDATION, TEST]).reset_index()
