"""What the data sheet of segmentation says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.common.provenance import Origin, find_origin
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.split import SplitSettings
from brain_tumor.reporting.data_segmentation.tables import (
    NOTHING,
    count_excluded,
    count_sets,
    explain_volumes,
    write_answer,
    write_missing,
)
from brain_tumor.reporting.markdown import SHEET, render_card, write_list
from brain_tumor.reporting.page import Section


def compose_data_sheet(
    patients: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
    missing: tuple[int, int],
    data_set: DataSet,
    policy: SplitSettings,
    origin: Origin,
) -> str:
    """The sheet.

    Args:
        about: the description of the prepared store.
        missing: slices that the published list names, and how many of them are not there.
    """
    found = find_origin(data_set.name, origin, simulated=about["simulated"], parameter="data_segmentation.origin")
    used = index[index["excluded"] == ""]
    sections = [
        Section("Where they are from", found.text),
        _composition(patients, used, about),
        _excluded(index, missing),
        Section("Preparation", _preparation(data_set, about)),
        _sets(patients, splits, policy),
        Section("Known problems", write_list([*found.problems, *_problems(patients)])),
        Section("Terms and citations", f"{found.terms}\n\n{write_list([*found.sources, SHEET])}"),
    ]
    title = f"Data sheet: {data_set.name}"
    return render_card(title, f"{write_answer(patients, index)}.", sections, simulated=about["simulated"])


def _composition(
    patients: pd.DataFrame,
    used: pd.DataFrame,
    about: Mapping[str, Any],
) -> Section:
    pixels = [f"{tissue}_pixels" for tissue in about["tissues"]]
    tumour = used[pixels].sum(axis=1) > 0
    text = (
        f"Slices of {', '.join(about['modalities'])} with masks of {', '.join(about['tissues'])}. "
        f"{tumour.sum():,} of {len(used):,} slices show tumour. "
        f"Slices of a patient: {_span(patients['slices'])}. Volume of a voxel in mm³: "
        f"{_span(used['voxel_mm3'])}. {explain_volumes(patients)}"
    )
    rows = []
    for name in about["tissues"]:
        millilitres = patients[f"{name}_ml"]
        quartiles = millilitres.quantile([0.25, 0.5, 0.75])
        without = int((millilitres == 0).sum())
        rows.append((name, *quartiles, without))
    volumes = pd.DataFrame(rows, columns=["tissue", "25 %", "median", "75 %", "patients without"])
    grades = patients["grade"].replace("", "not known").value_counts()
    grades = grades.rename_axis("grade").rename("patients").reset_index()
    tables = [("Millilitres of each tissue of a patient", volumes), ("Patients of each grade", grades)]
    return Section("Composition", text, tables)


def _span(values: pd.Series) -> str:
    least, most = values.min(), values.max()
    return f"{least:g}" if values.nunique() == 1 else f"{least:g} to {most:g}"


def _excluded(index: pd.DataFrame, missing: tuple[int, int]) -> Section:
    reasons = count_excluded(index)
    text = "`index.csv` names every file." if len(reasons) else NOTHING
    if missing[1]:
        # The words begin with a small letter, for the middle of a sentence.
        text += f" T{write_missing(missing)[1:]}."
    return Section("Excluded", text, [("Reasons", reasons)] if len(reasons) else [])


def _preparation(data_set: DataSet, about: Mapping[str, Any]) -> str:
    labels = "; ".join(
        f"{tissue.name} is {' or '.join(map(str, tissue.labels))} in NIfTI masks" for tissue in data_set.tissues
    )
    return (
        f"Slices are padded to a square and resized to {about['slice_size']} x {about['slice_size']} "
        "pixels, images bilinearly, labels by the nearest pixel; "
        f"{about['orientation']}; standardised to {about['standardisation']}. {labels}. What breaks a rule "
        "is excluded, with the reason."
    )


def _sets(patients: pd.DataFrame, splits: pd.DataFrame, policy: SplitSettings) -> Section:
    text = (
        f"By person (visits and other names of one stay together), seed {policy.seed}: "
        f"{policy.validation:.0%} to validate on, "
        f"{policy.test:.0%} to test on, at least one of each, the rest to train on; "
        f"{policy.folds} folds for cross-validation. Grades and tumour volumes are spread evenly over the sets."
    )
    return Section("Sets", text, [("Patients in each set", count_sets(patients, splits))])


def _problems(patients: pd.DataFrame) -> list[str]:
    """What the tables themselves show to be missing."""
    facts = {"grade": "grade", "age": "age", "survival_days": "survival", "resection": "resection"}
    said = []
    for column, word in facts.items():
        # As text: a column is of numbers where all are known.
        count = int((patients[column].astype(str) == "").sum())
        if count:
            said.append(f"{word} ({count})")
    return [f"Of {len(patients)} patients are not known: {', '.join(said)}."] if said else []
