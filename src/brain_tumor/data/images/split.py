"""Sets of images: as published, or without copies."""

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION
from brain_tumor.data.images.class_folders import ImageSet

OFFICIAL, DEDUPLICATED = "official", "deduplicated"
"""Names of the policies, and of the two test sets that every network is scored on."""

IN_TESTING, SECOND_DUPLICATE, CONFLICT = (
    "a copy is in the testing folder",
    "a copy of another training image",
    "copies of it have another class",
)


class ImageSplitSettings(BaseModel, frozen=True, extra="forbid"):
    """How images are split.

    Attributes:
        policy: "official" learns from the training folder as published. "deduplicated" learns from one of each group of
            copies, and from none that has a copy in the testing folder or copies of different classes.
        validation: fraction of the images to learn from, drawn by group of copies within each class.
    """

    policy: Literal["official", "deduplicated"] = "deduplicated"
    validation: float = Field(0.1, gt=0, lt=1)
    seed: int = 0


def split_images(
    index: pd.DataFrame, duplicates: pd.DataFrame, data_set: ImageSet, settings: ImageSplitSettings
) -> pd.DataFrame:
    """Each image's set: rows `file`, `class`, `group`, `split`, `official_test`, `deduplicated_test`, `excluded`.

    Of the images in the testing folder all are in the official test set. In the deduplicated one is one of each group
    of copies, unless the network has learned from a copy or copies have different classes. A function of names and
    seed, not of the order of the rows.

    Args:
        index: of all images.
        duplicates: rows `file`, `group`, `conflict` of the images that have copies.

    Raises:
        ValueError: if a class is left without an image to learn from or to validate on.
    """
    table = index[index["excluded"] == ""].merge(duplicates[["file", "group", "conflict"]], "left", on="file")
    table["group"] = table["group"].fillna(table["file"])
    conflict = table["conflict"].eq(True)
    table = table.assign(conflict=conflict, area=-table["width"] * table["height"]).sort_values(
        ["area", "file"]
    )  # the largest of each group is kept
    testing = table["folder"] == data_set.testing
    table["official_test"] = testing
    reason = pd.Series("", table.index)
    if settings.policy == DEDUPLICATED:
        reason[~testing & table[~testing].duplicated("group").reindex(table.index, fill_value=False)] = SECOND_DUPLICATE
        reason[~testing & table["group"].isin(table.loc[testing, "group"])] = IN_TESTING
        reason[~testing & conflict] = CONFLICT
    learned = ~testing & (reason == "")
    first = testing & ~table[testing].duplicated("group").reindex(table.index, fill_value=False)
    table["deduplicated_test"] = first & ~conflict & ~table["group"].isin(table.loc[learned, "group"])
    validation = _draw_groups(table[learned], settings)
    table["split"] = np.select(
        [testing, learned & table["group"].isin(validation), learned], [TEST, VALIDATION, TRAIN], ""
    )
    table["excluded"] = reason
    _require_classes(table, data_set)
    return table[["file", "class", "group", "split", "official_test", "deduplicated_test", "excluded"]].sort_values(
        "file", ignore_index=True
    )


def _draw_groups(learned: pd.DataFrame, settings: ImageSplitSettings) -> set[str]:
    """Groups to validate on: in each class, at random until they hold the fraction asked for."""
    rng = np.random.default_rng(settings.seed)
    drawn: set[str] = set()
    for _, images in learned.sort_values("file").groupby("class"):
        sizes = images.groupby("group", sort=True).size()
        sizes = sizes.iloc[rng.permutation(len(sizes))]
        drawn |= set(sizes.index[sizes.cumsum() - sizes < settings.validation * len(images)])
    return drawn


def _require_classes(table: pd.DataFrame, data_set: ImageSet) -> None:
    counts = table.groupby(["split", "class"]).size()
    for split in (TRAIN, VALIDATION):
        for name in data_set.classes:
            if counts.get((split, name), 0) == 0:
                raise ValueError(
                    f"no image of {name} is left for the {split} set once copies are taken out; add "
                    f"images, or use the policy '{OFFICIAL}'"
                )
