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
        "The volume of each tissue in each patient (a dot), the line is the median; and patients of each grade where "
        "grades are known.",
        (
            "a column of dots for each tissue, millilitres on a logarithmic axis; beside it a bar for each grade with "
            "its patients"
        ),
    ),
    "2_heights": Words(
        "Slices in use at each height, and how many of them show each tissue.",
        "grey bars with the slices at each height from the feet up, and a line for each tissue",
    ),
    "3_histograms": Words(
        "Standardised intensities of healthy brain and of each tissue in slices with tumour.",
        "a histogram for each modality: healthy brain in grey, a line for each tissue",
    ),
    "4_montage": Words(
        "The slice with most tumour of some patients, in the first modality, with the tissues of the mask. R and L are "
        "the patient's right and left.",
        "a grid of brain slices in grey, one a patient, with the tissues in colour over them",
    ),
    "5_slices": Words(
        "Slices in use of one patient, from the feet up: two modalities, then the tissues of the mask in colour. Move "
        "the slider to go through them.",
        ("the slices of one brain, in three panels: two modalities in grey, and the tissues in colour over the first"),
    ),
}
PHOTOS = {"4_montage", "5_slices"}
"""Figures made of scans."""


def compose_data_report(
    patients: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
    missing: tuple[int, int],
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
) -> str:
    """The page: what there is, what was excluded, how it is split.

    Args:
        about: the description of the prepared store.
        missing: slices that the published list names, and how many of them are not there.
        figures: name > PNG or GIF.
        settings: block > setting > value.
    """
    name = mark_title(about["data_set"], simulated=about["simulated"])
    answer = write_answer(patients, index)
    if missing[1]:
        answer += f"; {write_missing(missing)}"
    pictures = {
        figure: Picture(content, WORDS[figure], name, photo=figure in PHOTOS, wide=figure == "4_montage")
        for figure, content in figures.items()
    }
    excluded = count_excluded(index)
    tables = [("Excluded, and why", excluded)] if len(excluded) else []
    notes = count_notes(index)
    noted = [("What is unusual about patients in use", notes)] if len(notes) else []
    content = f"Modalities {', '.join(about['modalities'])}; {about['standardisation']}. {explain_volumes(patients)}"
    # Photographs are wide, and come after what fits into the text.
    plotted = [pictures[figure] for figure in pictures if figure not in PHOTOS]
    montage = [pictures["4_montage"]] if "4_montage" in pictures else []
    sections = [
        # The last sentence is empty where all patients have volumes.
        Section("What there is", content.rstrip(), [], plotted + montage),
        Section("Excluded", "" if tables else NOTHING, tables + noted),
        describe_settings(settings, ()),
    ]
    first = [pictures["5_slices"]] if "5_slices" in pictures else []
    table = (
        "Patients in each set; grades and tumour volumes are spread evenly over the sets",
        count_sets(patients, splits),
    )
    title, simulated = f"Data: {about['data_set']}", about["simulated"]
    return render_report(title, f"{answer}.", table, sections, simulated=simulated, pictures=first)
