"""What the data sheet of classification says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.common.provenance import Origin, find_origin
from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.duplicates import DuplicateSettings
from brain_tumor.data.images.split import ImageSplitSettings
from brain_tumor.reporting.data_classification.tables import (
    FITS,
    UNSEEN,
    count_duplicates,
    count_formats,
    count_not_learned,
    count_patients,
    count_reasons,
    count_sets,
    describe_sets,
    find_commonest_size,
)
from brain_tumor.reporting.markdown import SHEET, render_card, write_list
from brain_tumor.reporting.page import Section


def compose_data_sheet(
    index: pd.DataFrame,
    duplicates: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
    data_set: ImageSet,
    copies: DuplicateSettings,
    policy: ImageSplitSettings,
    origin: Origin,
) -> str:
    """The sheet. `about`: the description of the prepared store."""
    found = find_origin(data_set.name, origin, simulated=about["simulated"], parameter="data_classification.origin")
    used = index[index["excluded"] == ""]
    sections = [
        Section("Where they are from", found.text),
        _composition(used, duplicates, data_set, copies),
        _excluded(index, splits),
        Section("Preparation", _preparation(used, about)),
        _sets(splits, policy, data_set),
        Section("Known problems", write_list([*found.problems, UNSEEN, *_problems(index, duplicates)])),
        Section("Terms and citations", f"{found.terms}\n\n{write_list([*found.sources, SHEET])}"),
    ]
    files = (
        f"{len(used):,} images of {len(data_set.classes)} classes are in use; {len(index) - len(used):,} files "
        "are excluded"
    )
    summary = f"{files}; {len(duplicates):,} images have duplicates."
    title = f"Data sheet: {data_set.name}"
    return render_card(title, summary, sections, simulated=about["simulated"])


def _composition(
    used: pd.DataFrame, duplicates: pd.DataFrame, data_set: ImageSet, copies: DuplicateSettings
) -> Section:
    sizes, most, size = find_commonest_size(used)
    text = (
        f"Single slices in {sizes:,} sizes, most of them ({most:,}) {size} pixels. "
        f"{used['hash'].nunique():,} have pixels of their "
        f"own; with near-duplicates there are {duplicates['group'].nunique():,} groups of duplicates. Near-duplicates: "
        f"hashes that differ in at most {copies.distance} of "
        f"64 bits or thumbnails whose local contrast correlates with {copies.correlation} or more, and "
        "fine detail that correlates with "
        f"{copies.similarity} or more after alignment."
    )
    counts = count_duplicates(used, duplicates, data_set)
    tables = [
        ("Images of each class, and their duplicates", counts),
        ("Images of each class, and their patients", count_patients(used, data_set)),
        ("Formats and modes of the pixels", count_formats(used)),
    ]
    return Section("Composition", text, tables)


def _excluded(index: pd.DataFrame, splits: pd.DataFrame) -> Section:
    tables = [
        ("Files that can't be used", count_reasons(index, "excluded")),
        ("Images that are not used", count_not_learned(splits)),
    ]
    tables = [(caption, table) for caption, table in tables if len(table)]
    return Section("Excluded", "" if tables else "Nothing.", tables)


def _preparation(used: pd.DataFrame, about: Mapping[str, Any]) -> str:
    height = used["bottom"] - used["top"]
    width = used["right"] - used["left"]
    area = height * width / (used["width"] * used["height"])
    kept = area.median()
    return (
        f"Margins, frames and writing are cut away (half of the images keep {kept:.0%} of their area or "
        f"more); {FITS[about['fit']]}, then resized to "
        f"{about['image_size']} x {about['image_size']} pixels; {about['intensities']}."
    )


def _sets(splits: pd.DataFrame, policy: ImageSplitSettings, data_set: ImageSet) -> Section:
    text = (
        f"Policy “{policy.policy}”, seed {policy.seed}. {policy.validation:.0%} of the training images are for "
        f"validation. {describe_sets(data_set, policy)}"
    )
    return Section("Sets", text, [("Images of each class", count_sets(splits, data_set))])


def _problems(index: pd.DataFrame, duplicates: pd.DataFrame) -> list[str]:
    """What the tables themselves show."""
    conflicts = duplicates.loc[duplicates["conflict"], "group"].nunique()
    said = []
    if conflicts:
        said.append(f"{conflicts} groups of duplicates have more than one class: one of the labels must be wrong.")
    crossing = duplicates.loc[duplicates["both_folders"], "group"].nunique()
    if crossing:
        said.append(f"{crossing:,} groups of duplicates lie in both folders.")
    notes = count_reasons(index, "note")
    said += [f"{row.reason}: {row.files:,} of {len(index):,} files." for row in notes.itertuples()]
    return said
