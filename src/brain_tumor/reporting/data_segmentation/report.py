"""What the report on segmentation data says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.reporting.data_segmentation.tables import (
    NOTHING,
    count_excluded,
    count_notes,
    count_sets,
    explain_volumes,
    write_answer,
    write_missing,
)
from brain_tumor.reporting.formatting import mark_title
from brain_tumor.reporting.page import Picture, Section, Words, render_report
from brain_tumor.reporting.settings_table import describe_settings

WORDS = {
    "1_patients": Words(
        "Patients of each grade, and the volume of each tissue in each patient (a dot); the bar is the median.",
        (
            "a bar for each grade with its patients, and beside it a column of dots for each tissue: "
            "millilitres on a logarithmic axis"
        ),
    ),
    "2_heights": Words(
        "Slices in use at each height, and how many of them show each tissue.",
        "a grey area with the slices at each height from the feet up, and a stepped line for each tissue below it",
    ),
    "3_histograms": Words(
        "Standardised intensities of healthy brain and of each tissue in slices with tumour.",
        "a histogram for each modality: healthy brain in grey, a line for each tissue",
    ),
    "4_montage": Words(
        "The slice with most tumour of some patients, in the first modality.",
        "a grid of brain slices in grey, one a patient, with the tissues in colour over them",
    ),
    "5_slices": Words(
        "All slices in use of one patient, from the feet up: two modalities, then the tissues in colour.",
        (
            "an animation through the slices of one brain, in three panels: two modalities in grey, and the "
            "tissues in colour over the first"
        ),
    ),
}


def compose_data_report(
    patients: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
    missing: tuple[int, int],
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
) -> str:
    """The page: what there is, what was left out, how it is split.

    Args:
        about: the description of the prepared store.
        missing: slices that the published list names, and how many of them are not there.
        figures: name > PNG or GIF.
        settings: block > setting > value.
    """
    name = mark_title(about["data_set"], simulated=about["simulated"])
    answer = "; ".join([write_answer(patients, index), *([write_missing(missing)] if missing[1] else [])])
    pictures = [Picture(content, WORDS[figure], name) for figure, content in figures.items()]
    excluded = count_excluded(index)
    tables = [("What was left out, and why", excluded)] if len(excluded) else []
    notes = count_notes(index)
    noted = [("What is unusual about patients in use", notes)] if len(notes) else []
    content = f"Modalities {', '.join(about['modalities'])}; {about['standardisation']}. {explain_volumes(patients)}"
    sections = [
        Section("What was left out", "" if tables else NOTHING, tables + noted),
        Section("What there is", content.rstrip(), [], pictures),
        describe_settings(settings, ()),
    ]
    table = (
        "Patients in each set; grades and tumour volumes are spread evenly over the sets",
        count_sets(patients, splits),
    )
    return render_report(f"Data: {about['data_set']}", f"{answer}.", table, sections, simulated=about["simulated"])
