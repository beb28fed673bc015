"""What the report on raw scans says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.common.tables import with_text
from brain_tumor.data.raw_scans.brain import BRAIN_ML
from brain_tumor.reporting.page import Picture, Section, Words, render_report
from brain_tumor.reporting.settings_table import describe_settings

LOOK = (
    "Look at each patient. In the checkerboards edges of ventricles, skull and brain must go on from field to field. "
    "The outline must follow the brain, without eyes, skull and neck. Masks of a scan that lies wrong are wrong."
)
MEANING = (
    "Mutual information is measured over all voxels at 2 mm, in nats; higher is better, and values of two pairs of "
    f"modalities can't be compared. Brains of adults have {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:,.0f} ml. Where no expert "
    "has marked the same points in both scans, the error of a registration in millimetres isn't known."
)
PATIENT = Words(
    "Two planes in the position of BraTS: each modality in a checkerboard with the one that it is registered to, and "
    "the outline of the brain.",
    "brain slices in grey in two planes, in fields of two modalities, and with the outline of the brain",
)
HEADINGS = {
    "brain_ml": "brain, ml",
    "overlap_with_atlas": "Dice with the atlas's brain",
    "cut_brain": "brain outside the field of view",
}
MOVES = {
    "information_before": "mutual information before",
    "information_after": "after",
    "turn_degrees": "turn, degrees",
    "shift_mm": "shift, mm",
}


def compose_raw_report(
    series: pd.DataFrame,
    transforms: pd.DataFrame,
    atlas_transforms: pd.DataFrame,
    quality: pd.DataFrame,
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
) -> str:
    """The page: numbers of each patient, pictures, which series was taken for what, registrations.

    Args:
        series: a row for each series or file, with `taken` and `why`.
        transforms: registrations to the reference; `atlas_transforms`: those to the atlas.
        quality: a row for each patient, `excluded` "" for those in use.
        figures: name > PNG.
        settings: block > setting > value.
    """
    quality = with_text(quality, "state", "warnings", "excluded")
    series = with_text(series, "series", "description", "modality", "why", "note", "excluded")
    used = quality[quality["excluded"] == ""]
    excluded = quality[quality["excluded"] != ""]
    warned = int((used["warnings"] != "").sum())
    numbers = used.drop(columns="excluded").rename(columns=HEADINGS)
    pictures = [Picture(png, PATIENT, name[3:], photo=True, wide=True) for name, png in figures.items()]
    moved = pd.concat([transforms, atlas_transforms], ignore_index=True)
    moved = moved[moved["information_after"].notna()]
    columns = ["patient", "modality", *MOVES]
    listed = ["patient", "series", "description", "modality", "taken", "why", "spacing_mm"]
    notes = series.loc[series["note"] != "", ["patient", "note"]].drop_duplicates()
    sections = [
        Section("Registration", MEANING, [("Each registration", moved[columns].rename(columns=MOVES))]),
        Section(
            "Series",
            "What each series or file is taken for, and why. `data_raw_scans.series` overrules it.",
            [("", series[listed])] + ([("What is unusual", notes)] if len(notes) else []),
        ),
        *([Section("Left out", "", [("Patients", excluded[["patient", "excluded"]])])] if len(excluded) else []),
        describe_settings(settings, ("SimpleITK", "deepbet", "dcm2niix", "pydicom")),
    ]
    answer = (
        f"{len(used):,} patients are prepared, {warned:,} of them with a warning; {len(excluded):,} are excluded. "
        f"{LOOK}"
    )
    table = ("Numbers of each patient", numbers)
    simulated = bool(series["simulated"].any())
    return render_report("Raw scans", answer, table, sections, simulated=simulated, pictures=pictures)
