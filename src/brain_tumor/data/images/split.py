"""Training, validation and test sets of images: as published, or without near-duplicates between them."""

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION
from brain_tumor.data.images.class_folders import ImageSet

OFFICIAL, DEDUPLICATED = "official", "deduplicated"
"""Names of the policies, and of the two test sets that every network is scored on."""

IN_TESTING = "a duplicate is in the testing folder"
SECOND_DUPLICATE = "a duplicate of another training image"
CONFLICT = "duplicates of it have another class"


class ImageSplitSettings(BaseModel, frozen=True, extra="forbid"):
    """How images are split.

    Attributes:
        policy: "official" trains on the training folder as published. "deduplicated" trains on one image of each group
            of duplicates. It excludes groups with an image in the testing folder, and groups of several classes.
        validation: fraction of the training images, drawn by group within each class.
    """

    policy: Literal["official", "deduplicated"] = "deduplicated"
    validation: float = Field(0.1, gt=0, lt=1)
    seed: int = 0


def split_images(
    index: pd.DataFrame, duplicates: pd.DataFrame, data_set: ImageSet, settings: ImageSplitSettings
) -> pd.DataFrame:
    """The set of each image: rows `file`, `class`, `group`, `split`, `official_test`, `deduplicated_test`, `excluded`.

    The official test set is the testing folder. The deduplicated test set holds one image of each of its groups,
    without groups that have an image in the training set, and without groups of several classes. The split depends on
    file names and the seed, not on the order of the rows.

    Args:
        index: of all images.
        duplicates: rows `file`, `group`, `conflict` of the images that have duplicates.

    Raises:
        ValueError: if the training or the validation set lacks a class.
    """
    table = index[index["excluded"] == ""].merge(duplicates[["file", "group", "conflict"]], "left", on="file")
    table["group"] = table["group"].fillna(table["file"])
    conflict = table["conflict"].eq(True)
    table = table.assign(conflict=conflict, area=-table["width"] * table["height"])
    # The first of each group is kept: the largest image, which lost least when it was saved again.
    table = table.sort_values(["area", "file"])
    testing = table["folder"] == data_set.testing
    table["official_test"] = testing
    reason = pd.Series("", table.index)
    if settings.policy == DEDUPLICATED:
        # Later reasons overwrite earlier ones: a conflict of classes says most.
        repeated = table[~testing].duplicated("group").reindex(table.index, fill_value=False)
        reason[~testing & repeated] = SECOND_DUPLICATE
        reason[~testing & table["group"].isin(table.loc[testing, "group"])] = IN_TESTING
        reason[~testing & conflict] = CONFLICT
    used = ~testing & (reason == "")
    first = testing & ~table[testing].duplicated("group").reindex(table.index, fill_value=False)
    table["deduplicated_test"] = first & ~conflict & ~table["group"].isin(table.loc[used, "group"])
    in_validation = used & table["group"].isin(_draw_groups(table[used], settings))
    table["split"] = np.select([testing, in_validation, used], [TEST, VALIDATION, TRAIN], "")
    table["excluded"] = reason
    _require_classes(table, data_set)
    columns = ["file", "class", "group", "split", "official_test", "deduplicated_test", "excluded"]
    return table[columns].sort_values("file", ignore_index=True)


def _draw_groups(training: pd.DataFrame, settings: ImageSplitSettings) -> set[str]:
    """Groups of the validation set: in each class, drawn at random until they hold the fraction asked for."""
    rng = np.random.default_rng(settings.seed)
    drawn: set[str] = set()
    for _, images in training.sort_values("file").groupby("class"):
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
                    f"no image of {name} is left for the {split} set without duplicates; add "
                    f"images, or use the policy '{OFFICIAL}'"
                )
