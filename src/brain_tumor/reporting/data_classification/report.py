"""What the report on classification data says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.images.class_folders import ImageSet
from brain_tumor.data.images.duplicates import DuplicateSettings
from brain_tumor.data.images.patients import CONTRADICTS
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
from brain_tumor.reporting.page import Picture, Section, Words, render_report
from brain_tumor.reporting.settings_table import describe_settings

WORDS = {
    "1_counts": Words(
        ("Images of each class as published, hatched where an image has duplicates; and images of each set."),
        "two bar charts: images of each class in both folders with the part that has duplicates hatched, and "
        "images of each class in each set; the tables have "
        "the numbers",
    ),
    "2_borders": Words(
        (
            "As published with the box around what is kept, and as it is prepared: images with a note, "
            "those that lose most, and some at random."
        ),
        (
            "a grid of pairs of images: as published with a yellow box around the head, and what is left after "
            "the borders are cut away"
        ),
    ),
    "3_similarity": Words(
        (
            "Fine detail of the pairs whose hashes are near, identical pairs excluded: near-duplicates on "
            "the right, other slices on the left, few between."
        ),
        (
            "a histogram of the correlation of fine detail, from 0 to 1, with a red line at the threshold from "
            "which pairs count as near-duplicates"
        ),
    ),
    "4_pairs": Words(
        (
            "Pairs on both sides of the threshold, the second laid like the first. Below it neighbouring "
            "slices of one patient, above it near-duplicates."
        ),
        (
            "a grid of pairs of brain images in the order of their similarity, with file names, similarity and "
            "how the second one lies"
        ),
    ),
}
PHOTOS = {"2_borders", "4_pairs"}
"""Figures made of images."""

NEIGHBOUR = 0.6
"""From this similarity up, two slices that are no duplicates are probably of one patient."""


def compose_data_report(
    index: pd.DataFrame,
    pairs: pd.DataFrame,
    duplicates: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
    figures: Mapping[str, bytes],
    data_set: ImageSet,
    copies: DuplicateSettings,
    policy: ImageSplitSettings,
    planted: tuple[int, int, int] | None,
) -> str:
    """The page: how many duplicates, what they are, what was cut away, what is left.

    Args:
        about: the description of the prepared store.
        figures: name > PNG.
        planted: duplicates that the simulated sample holds, how many of them were detected, and how many others were
            taken for duplicates.
    """
    pictures = {
        name: Picture(content, WORDS[name], data_set.name, photo=name in PHOTOS, wide=name in PHOTOS)
        for name, content in figures.items()
    }
    counts = count_duplicates(index, duplicates, data_set)
    # Of the description, because its store may have been prepared in an earlier run.
    preparation = {key: about[key] for key in ("image_size", "fit")}
    settings = {"copies": copies.model_dump(), "preparation": preparation, "split": policy.model_dump()}
    sections = [
        _copies(duplicates, index, copies, planted, [pictures["3_similarity"], pictures["4_pairs"]]),
        _patients(index, data_set),
        Section("What no audit can detect", f"{UNSEEN} {_neighbours(pairs, duplicates, index, data_set, copies)}"),
        _files(index),
        Section(
            "Borders", f"Margins, frames and writing are cut away; {FITS[about['fit']]}.", [], [pictures["2_borders"]]
        ),
        _sets(splits, policy, data_set, [pictures["1_counts"]]),
        describe_settings(settings, ()),
    ]
    table = (f"Images in {data_set.training} and {data_set.testing}, and their duplicates in the other folder", counts)
    return render_report(
        f"Data: {data_set.name}", _answer(counts, data_set), table, sections, simulated=about["simulated"]
    )


def _answer(counts: pd.DataFrame, data_set: ImageSet) -> str:
    columns = ["images", "identical in other", "duplicates in other"]
    total = counts.loc[counts["folder"] == data_set.testing, columns].sum()
    share = total["duplicates in other"] / total["images"]
    return (
        f"Of {total['images']:,} test images {total['identical in other']:,} are identical to a training "
        f"image, and {total['duplicates in other']:,} "
        f"({share:.0%}) have a duplicate among them when near-duplicates (saved again, resized, cropped, brightened, "
        "sharpened or mirrored) count too."
    )


def _copies(
    duplicates: pd.DataFrame,
    index: pd.DataFrame,
    copies: DuplicateSettings,
    planted: tuple[int, int, int] | None,
    pictures: list[Picture],
) -> Section:
    used = index[index["excluded"] == ""]
    repeated = used[used.duplicated("hash", keep=False)]
    identical = repeated["hash"].nunique()
    groups = duplicates["group"].nunique()
    # A group of duplicates counts as one image.
    distinct = len(used) - len(duplicates) + groups
    text = (
        f"{used['hash'].nunique():,} of {len(used):,} images have pixels of their own; {identical:,} "
        "groups are identical, "
        f"{used.duplicated('hash').sum():,} images too many. With near-duplicates there are {groups:,} groups, "
        f"and {distinct:,} "
        "images of their own. Candidates are pairs whose 64-bit hashes differ in at most "
        f"{copies.distance} bits or whose thumbnails' local contrast "
        f"correlates with {copies.correlation} or more, mirrored and turned ones too. They are aligned, "
        "and their fine detail is correlated: from "
        f"{copies.similarity} they count as near-duplicates. The threshold was chosen by looking at the pairs below."
    )
    if planted:
        text += (
            f" The sample holds {planted[0]} planted duplicates: {planted[1]} were detected, and {planted[2]} other "
            "images were taken for duplicates."
        )
    conflicts = duplicates[duplicates["conflict"]]
    tables = []
    if len(conflicts):
        caption = "Duplicates of different classes: one of the labels must be wrong"
        tables.append((caption, conflicts[["group", "file", "class"]]))
    return Section("Duplicates", text, tables, pictures)


def _neighbours(
    pairs: pd.DataFrame,
    duplicates: pd.DataFrame,
    index: pd.DataFrame,
    data_set: ImageSet,
    copies: DuplicateSettings,
) -> str:
    groups = duplicates.set_index("file")["group"]
    # Two copies of a third are copies, however they compare.
    apart = pairs["first"].map(groups) != pairs["second"].map(groups)
    alike = (pairs["similarity"] >= NEIGHBOUR) & (pairs["similarity"] < copies.similarity)
    near = pairs[apart & alike]
    folder = index.set_index("file")["folder"]
    first_tests = folder[near["first"]].to_numpy() == data_set.testing
    second_tests = folder[near["second"]].to_numpy() == data_set.testing
    # Of a pair with one image in each folder, the test image; an image may be in several pairs.
    test_images = pd.concat([near["first"][first_tests & ~second_tests], near["second"][second_tests & ~first_tests]])
    test = test_images.nunique()
    return (
        f"Among the pairs compared, {test:,} test images have a training image that is no duplicate but whose "
        f"detail correlates with {NEIGHBOUR} to "
        f"{copies.similarity}, as neighbouring slices do: there are at least about as many leaks of this kind."
    )


def _patients(index: pd.DataFrame, data_set: ImageSet) -> Section:
    used = index[index["excluded"] == ""]
    known = used[used["patient"] != ""]
    if not len(known):
        return Section("Patients", "No table of patients: sets are drawn by group of duplicates.")
    testing = known[known["folder"] == data_set.testing]
    training = known.loc[known["folder"] == data_set.training, "patient"]
    leaked = testing["patient"].isin(training).sum()
    text = (
        f"The patient is known of {len(known):,} of {len(used):,} images. Of {len(testing):,} test images whose "
        f"patient is known, {leaked:,} show a patient of whom an image is in {data_set.training}."
    )
    contradicted = index[(index["excluded"] + index["note"]).str.contains(CONTRADICTS)]
    tables = [("Patients of each class", count_patients(index, data_set))]
    if len(contradicted):
        what = contradicted["excluded"].where(contradicted["excluded"] != "", contradicted["note"])
        shown = contradicted[["file", "patient"]].assign(label=what)
        tables.append(("Images whose folder contradicts the table of patients", shown))
    return Section("Patients", text, tables)


def _files(index: pd.DataFrame) -> Section:
    used = index[index["excluded"] == ""]
    sizes, most, size = find_commonest_size(used)
    text = (
        f"{len(used):,} images in {sizes:,} sizes ({most:,} are {size}). {len(index) - len(used):,} files are excluded."
    )
    tables = [("Formats and modes of the pixels", count_formats(used))]
    for column, caption in (("excluded", "Excluded, and why"), ("note", "What is unusual")):
        reasons = count_reasons(index, column)
        if len(reasons):
            tables.append((caption, reasons))
    return Section("Files", text, tables)


def _sets(
    splits: pd.DataFrame,
    policy: ImageSplitSettings,
    data_set: ImageSet,
    pictures: list[Picture],
) -> Section:
    reasons = count_not_learned(splits)
    tables = [("Images of each class", count_sets(splits, data_set))]
    if len(reasons):
        tables.append(("Images that are not used", reasons))
    text = f"Policy {policy.policy}. {describe_sets(data_set, policy)}"
    return Section("Sets", text, tables, pictures)


def count_planted(planted: pd.DataFrame, duplicates: pd.DataFrame) -> tuple[int, int, int]:
    """Duplicates in the sample, how many of them share a group with their original, and how many are grouped wrongly.

    Grouped wrongly are images, or families of duplicates, that share a group with others.

    Args:
        planted: rows `file`, `copy_of`, as the simulation wrote them.
    """
    group = duplicates.set_index("file")["group"]
    found = 0
    for row in planted.itertuples():
        # An image without duplicates is in no group, and stands for itself.
        found += group.get(row.file, row.file) == group.get(row.copy_of, row.copy_of)
    original = dict(zip(planted["file"], planted["copy_of"], strict=True))
    family = duplicates["file"].replace(original)
    # A group holds one family; what is beyond it is grouped wrongly.
    families = family.groupby(duplicates["group"]).nunique()
    return len(planted), found, int((families - 1).sum())
