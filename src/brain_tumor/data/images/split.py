"""Training, validation and test sets of images: as published, or without near-duplicates."""

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION
from brain_tumor.data.images.class_folders import ImageSet

OFFICIAL, DEDUPLICATED = "official", "deduplicated"
"""Names of the policies, and of the two test sets that every network is scored on."""

IN_TESTING = "a copy is in the testing folder"
SECOND_DUPLICATE = "a copy of another training image"
CONFLICT = "copies of it have another class"
"""Reasons of exclusion from the training set."""


class ImageSplitSettings(BaseModel, frozen=True, extra="forbid"):
    """Settings of the split.

    Attributes:
        policy: "official" trains on the training folder as published. "deduplicated" trains on one image of each group
            of near-duplicates, without groups that have images in the testing folder or of different classes.
        validation: fraction of the training images, drawn by group within each class.
    """

    policy: Literal["official", "deduplicated"] = "deduplicated"
    validation: float = Field(0.1, gt=0, lt=1)
    seed: int = 0


def split_images(
    index: pd.DataFrame, duplicates: pd.DataFrame, data_set: ImageSet, settings: ImageSplitSettings
) -> pd.DataFrame:
    """Set of each image, a function of names and seed, not of the order of the rows.

    The official test set is the whole testing folder. The deduplicated one has one image of each group of
    near-duplicates, without groups that have training images or different classes.

    Args:
        index: of all images.
        duplicates: rows `file`, `group`, `conflict` of the images that have near-duplicates.

    Returns: rows `file`, `class`, `group`, `split`, `official_test`, `deduplicated_test`, `excluded`.

    Raises:
        ValueError: if a class is left without training or validation images.
    """
    table = index[index["excluded"] == ""].merge(duplicates[["file", "group", "conflict"]], "left", on="file")
    table["group"] = table["group"].fillna(table["file"])
    # The largest image of each group comes first, and is kept.
    conflict = table["conflict"].eq(True)
    table = table.assign(conflict=conflict, area=-table["width"] * table["height"])
    table = table.sort_values(["area", "file"])
    testing = table["folder"] == data_set.testing
    table["official_test"] = testing
    reason = pd.Series("", table.index)
    if settings.policy == DEDUPLICATED:
        # The last reason that applies is given.
        second = table[~testing].duplicated("group").reindex(table.index, fill_value=False)
        reason[~testing & second] = SECOND_DUPLICATE
        reason[~testing & table["group"].isin(table.loc[testing, "group"])] = IN_TESTING
        reason[~testing & conflict] = CONFLICT
    learned = ~testing & (reason == "")
    first = testing & ~table[testing].duplicated("group").reindex(table.index, fill_value=False)
    table["deduplicated_test"] = first & ~conflict & ~table["group"].isin(table.loc[learned, "group"])
    validation = _draw_groups(table[learned], settings)
    validated = learned & table["group"].isin(validation)
    table["split"] = np.select([testing, validated, learned], [TEST, VALIDATION, TRAIN], "")
    table["excluded"] = reason
    _require_classes(table, data_set)
    columns = ["file", "class", "group", "split", "official_test", "deduplicated_test", "excluded"]
    return table[columns].sort_values("file", ignore_index=True)


def _draw_groups(learned: pd.DataFrame, settings: ImageSplitSettings) -> set[str]:
    """Validation groups: drawn at random in each class until they hold the fraction of the settings."""
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
