"""What the report on classification data says."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brain_tumor.data.copies import CopySettings
from brain_tumor.data.image_split import ImageSplitSettings
from brain_tumor.data.images import ImageSet
from brain_tumor.data.split import TRAIN, VALIDATION
from brain_tumor.figures.report import Picture, Section, render_report

CAPTIONS = {
    "1_counts": "Images of each class as published, hatched where an image has copies; and what is left to learn from, validate and test on.",
    "2_borders": "As published with the box around what is kept, and as the networks see it: images with a note, those that lose most, and some at random.",
    "3_similarity": "Fine detail of the pairs whose hashes are near, identical pairs left out: copies on the right, other slices on the left, few between.",
    "4_pairs": "Pairs on both sides of the threshold, the second laid like the first. Below it neighbouring slices of one patient, above it copies.",
}
UNSEEN = (
    "The files carry no patient ids. Slices of one patient that lie in both folders are not copies, and no comparison of images can tell them from slices of "
    "two patients for certain. So the deduplicated test set is free of copies, not of patients that the networks know: read its scores as an upper bound of "
    "what a new hospital would see."
)
NEIGHBOUR = 0.6
"""From this similarity up, two slices that are no copies are probably of one patient."""


def compose_data_report(
    index: pd.DataFrame,
    pairs: pd.DataFrame,
    duplicates: pd.DataFrame,
    splits: pd.DataFrame,
    about: Mapping[str, Any],
    figures: Mapping[str, bytes],
    data_set: ImageSet,
    copies: CopySettings,
    policy: ImageSplitSettings,
    planted: tuple[int, int, int] | None,
) -> str:
    """The page: how many copies, what they are, what was cut away, what is left.

    Args:
        about: the description of the prepared store.
        figures: name > PNG.
        planted: copies that the simulated sample holds, how many of them were found, and how many others.
    """
    pictures = {name: Picture(content, CAPTIONS[name]) for name, content in figures.items()}
    counts = _counts(index, duplicates, data_set)
    sections = [
        _copies(counts, duplicates, index, data_set, copies, planted, [pictures["3_similarity"], pictures["4_pairs"]]),
        Section("What no audit can see", f"{UNSEEN} {_neighbours(pairs, index, data_set, copies)}"),
        _files(index),
        Section("Borders", f"Margins, frames and writing are cut away; {_FITS[about['fit']]}.", [], [pictures["2_borders"]]),
        _sets(splits, policy, data_set, [pictures["1_counts"]]),
    ]
    name = data_set.name + (" (SIMULATED)" if about["simulated"] else "")
    return render_report(f"Data: {name}", _answer(counts, data_set), sections, simulated=about["simulated"])


_FITS = {"pad": "what is left is padded to a square, so its aspect stays", "stretch": "what is left is stretched to a square"}


def _answer(counts: pd.DataFrame, data_set: ImageSet) -> str:
    total = counts.loc[counts["folder"] == data_set.testing, ["images", "identical in other", "copies in other"]].sum()
    share = total["copies in other"] / total["images"]
    return (
        f"Of {total['images']:,} test images {total['identical in other']:,} are identical to a training image, and {total['copies in other']:,} "
        f"({share:.0%}) have a copy among them when copies that were saved again, resized, cropped, brightened, sharpened or mirrored count too."
    )


def _counts(index: pd.DataFrame, duplicates: pd.DataFrame, data_set: ImageSet) -> pd.DataFrame:
    """For each folder and class: images, those with copies, and those with a copy in the other folder, identical or any."""
    used = index[index["left_out"] == ""].merge(duplicates[["file", "group"]], "left", on="file")
    parts = []
    for folder in (data_set.training, data_set.testing):
        part, other = used[used["folder"] == folder], used[used["folder"] != folder]
        parts.append(part.assign(identical=part["hash"].isin(other["hash"]), copied=part["group"].isin(other["group"].dropna())))
    table = (
        pd.concat(parts)
        .groupby(["folder", "class"], sort=False)
        .agg(images=("file", "size"), with_copies=("group", "count"), identical=("identical", "sum"), copied=("copied", "sum"))
    )
    names = {"with_copies": "with copies", "identical": "identical in other", "copied": "copies in other"}
    return table.reset_index().rename(columns=names)


def _copies(
    counts: pd.DataFrame,
    duplicates: pd.DataFrame,
    index: pd.DataFrame,
    data_set: ImageSet,
    copies: CopySettings,
    planted: tuple[int, int, int] | None,
    pictures: list[Picture],
) -> Section:
    used = index[index["left_out"] == ""]
    identical, groups = used["hash"][used.duplicated("hash", keep=False)].nunique(), duplicates["group"].nunique()
    text = (
        f"{used['hash'].nunique():,} of {len(used):,} images have pixels of their own; {identical:,} groups are identical, "
        f"{used.duplicated('hash').sum():,} images too many. With near copies there are {groups:,} groups, and {len(used) - len(duplicates) + groups:,} "
        f"images of their own. Candidates are pairs whose 64-bit hashes differ in at most {copies.distance} bits, mirrored and turned ones too. They are "
        f"aligned, and their fine detail is correlated: from {copies.similarity} they count as copies. The threshold was chosen by looking at the pairs below."
    )
    if planted:
        text += f" The sample holds {planted[0]} planted copies: {planted[1]} were found, and {planted[2]} other images were taken for copies."
    tables = [(f"Images in {data_set.training} and {data_set.testing}, and their copies in the other folder", counts)]
    conflicts = duplicates[duplicates["conflict"]]
    if len(conflicts):
        tables.append(("Copies of different classes: one of the labels must be wrong", conflicts[["group", "file", "class"]]))
    return Section("Copies", text, tables, pictures)


def _neighbours(pairs: pd.DataFrame, index: pd.DataFrame, data_set: ImageSet, copies: CopySettings) -> str:
    near = pairs[(pairs["similarity"] >= NEIGHBOUR) & (pairs["similarity"] < copies.similarity)]
    folder = index.set_index("file")["folder"]
    first, second = (folder[near[side]].to_numpy() == data_set.testing for side in ("first", "second"))
    test = pd.concat([near["first"][first & ~second], near["second"][second & ~first]]).nunique()
    return (
        f"Among the pairs compared, {test:,} test images have a training image that is no copy but whose detail correlates with {NEIGHBOUR} to "
        f"{copies.similarity}, as neighbouring slices do: there are at least about as many leaks of this kind."
    )


def _files(index: pd.DataFrame) -> Section:
    used = index[index["left_out"] == ""]
    sizes = used.groupby(["width", "height"]).size()
    width, height = sizes.idxmax()
    text = f"{len(used):,} images in {len(sizes):,} sizes ({sizes.max():,} are {width} x {height}). {len(index) - len(used):,} files are left out."
    tables = [("Formats and modes of the pixels", used.groupby(["format", "mode"]).size().rename("images").reset_index())]
    for column, caption in (("left_out", "What was left out, and why"), ("note", "What is unusual")):
        rows = index[index[column] != ""]
        if len(rows):
            tables.append(
                (caption, rows.groupby(column).agg(files=("file", "size"), example=("file", "first")).reset_index().rename(columns={column: "reason"}))
            )
    return Section("Files", text, tables)


def _sets(splits: pd.DataFrame, policy: ImageSplitSettings, data_set: ImageSet, pictures: list[Picture]) -> Section:
    sets = {name: splits["split"] == name for name in (TRAIN, VALIDATION)}
    sets |= {"official test": splits["official_test"], "deduplicated test": splits["deduplicated_test"]}
    counts = pd.DataFrame({name: splits[rows].groupby("class").size() for name, rows in sets.items()}).reindex(data_set.classes).fillna(0).astype(int)
    table = counts.T.assign(all=counts.sum()).rename_axis("set").reset_index()
    reasons = splits[splits["left_out"] != ""].groupby(["left_out", "class"]).size().rename("images").reset_index()
    tables = [("Images of each class", table)]
    if len(reasons):
        tables.append(("Training images that are not learned from", reasons.rename(columns={"left_out": "reason"})))
    text = (
        f"Policy {policy.policy}. Validation is drawn from {data_set.training} by group of copies. The official test set is {data_set.testing} as published; "
        "the deduplicated one holds one of each group of copies, none of which is learned from."
    )
    return Section("Sets", text, tables, pictures)


def count_planted(planted: pd.DataFrame, duplicates: pd.DataFrame) -> tuple[int, int, int]:
    """Copies that the sample holds, how many of them share a group with their original, and how many images share a group with no planted relation.

    Args:
        planted: rows `file`, `copy_of`, as the simulation wrote them.
    """
    group = duplicates.set_index("file")["group"]
    found = sum(group.get(row.file, row.file) == group.get(row.copy_of, row.copy_of) for row in planted.itertuples())
    related = {*planted["file"], *planted["copy_of"]}
    return len(planted), found, int((~duplicates["file"].isin(related)).sum())
