"""Training, validation and test sets of images: by patient, without near-duplicates between them, or as published."""

import logging
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION, join_groups
from brain_tumor.data.images.class_folders import ImageSet

logger = logging.getLogger(__name__)

Policy = Literal["patient", "deduplicated", "official"]

PATIENT, DEDUPLICATED, OFFICIAL = TEST_SETS = "patient", "deduplicated", "official"
"""Names of the policies, and of the test sets that networks are scored on, the fewest leaks first."""

IN_TEST = [f"{name}_test" for name in TEST_SETS]
"""Columns: whether an image is in each test set."""

IN_TESTING = "a duplicate is in the testing folder"
SECOND_DUPLICATE = "a duplicate of another training image"
SECOND_IMAGE = "a duplicate of another image"
CONFLICT = "duplicates of it have another class"


class ImageSplitSettings(BaseModel, frozen=True, extra="forbid"):
    """How images are split.

    Attributes:
        policy: "patient" tests every image once, in k folds over both folders: no patient, and no group of duplicates,
            is in two sets of a fold. One image of each group of duplicates is used. "deduplicated" trains on the
            training folder, on one image of each group of duplicates, and excludes groups with an image in the testing
            folder. "official" trains on the training folder as published. Groups of several classes are excluded,
            except by "official".
        folds: number of folds of the policy "patient".
        validation: fraction of the training images, drawn by patient and group within each class.
    """

    policy: Policy = "patient"
    folds: int = Field(5, ge=2)
    validation: float = Field(0.1, gt=0, lt=1)
    seed: int = 0


def split_images(
    index: pd.DataFrame, duplicates: pd.DataFrame, data_set: ImageSet, settings: ImageSplitSettings
) -> pd.DataFrame:
    """The set of each image.

    The official test set is the testing folder. The deduplicated test set holds one image of each of its groups,
    without groups that have an image in the training set, and without groups of several classes. By patient, every
    image in use is tested in its `fold`, and validates in the training of at most one other, `validation_fold`. The
    split depends on file names and the seed, not on the order of the rows.

    Args:
        index: of all images.
        duplicates: rows `file`, `group`, `conflict` of the images that have duplicates.

    Returns: rows `file`, `class`, `patient`, `group`, `person`, `split`, `fold`, `validation_fold`, `patient_test`,
        `deduplicated_test`, `official_test`, `excluded`. A person is a patient, with all duplicates of their images; or
        a group of duplicates of no known patient. Folds are -1 where there are none.

    Raises:
        ValueError: if the training or the validation set, or a fold, lacks a class.
    """
    table = index[index["excluded"] == ""].merge(duplicates[["file", "group", "conflict"]], "left", on="file")
    table["group"] = table["group"].fillna(table["file"])
    table["person"] = find_persons(table)
    conflict = table["conflict"].eq(True)
    table = table.assign(conflict=conflict, area=-table["width"] * table["height"])
    # The first of each group is kept: the largest image, which lost least when it was saved again.
    table = table.sort_values(["area", "file"])
    table = table.assign(fold=-1, validation_fold=-1, **dict.fromkeys(IN_TEST, False))
    if settings.policy == PATIENT:
        table = _split_by_patient(table, data_set, settings)
    else:
        table = _split_by_folder(table, data_set, settings)
    columns = ["file", "class", "patient", "group", "person", "split", "fold", "validation_fold", *IN_TEST, "excluded"]
    return table[columns].sort_values("file", ignore_index=True)


def find_persons(table: pd.DataFrame) -> pd.Series:
    """The person of each image: images of one patient and images of one group of duplicates belong together.

    Args:
        table: rows `file`, `patient` ("" where it is not known), `group`.
    """
    ordered = table.sort_values("file")
    group, groups = pd.factorize(ordered["group"])
    # An image without a patient is linked by its group alone.
    patient = ordered["patient"].where(ordered["patient"] != "", ordered["group"])
    links = pd.DataFrame({"group": group, "patient": pd.factorize(patient)[0]}).drop_duplicates()
    first = links.groupby("patient")["group"].transform("first")
    joined = join_groups(len(groups), first.to_numpy(), links["group"].to_numpy())
    number = pd.Series(joined[group], ordered.index)
    known = ordered["patient"].where(ordered["patient"] != "")
    several = known.groupby(number).nunique()
    for person in several.index[several > 1]:
        names = sorted(known[number == person].dropna().unique())
        logger.warning("%s have duplicates of each other: they are taken for one person", " and ".join(names))
    named = known.groupby(number).transform("min")
    return named.fillna(ordered["group"].groupby(number).transform("min")).reindex(table.index)


def _split_by_folder(table: pd.DataFrame, data_set: ImageSet, settings: ImageSplitSettings) -> pd.DataFrame:
    """Sets within the published folders."""
    testing = table["folder"] == data_set.testing
    reason = pd.Series("", table.index)
    if settings.policy == DEDUPLICATED:
        # Later reasons overwrite earlier ones: a conflict of classes says most.
        repeated = table[~testing].duplicated("group").reindex(table.index, fill_value=False)
        reason[~testing & repeated] = SECOND_DUPLICATE
        reason[~testing & table["group"].isin(table.loc[testing, "group"])] = IN_TESTING
        reason[~testing & table["conflict"]] = CONFLICT
    used = ~testing & (reason == "")
    first = testing & ~table[testing].duplicated("group").reindex(table.index, fill_value=False)
    table["official_test"] = testing
    table["deduplicated_test"] = first & ~table["conflict"] & ~table["group"].isin(table.loc[used, "group"])
    in_validation = used & table["group"].isin(_draw(table[used], "group", settings.validation, settings.seed))
    table["split"] = np.select([testing, in_validation, used], [TEST, VALIDATION, TRAIN], "")
    table["excluded"] = reason
    counts = table.groupby(["split", "class"]).size()
    for split in (TRAIN, VALIDATION):
        for name in data_set.classes:
            if counts.get((split, name), 0) == 0:
                raise ValueError(
                    f"no image of {name} is left for the {split} set without duplicates; add "
                    f"images, or use the policy '{OFFICIAL}'"
                )
    return table


def _split_by_patient(table: pd.DataFrame, data_set: ImageSet, settings: ImageSplitSettings) -> pd.DataFrame:
    """Folds of persons, each of which spans the classes evenly."""
    reason = pd.Series("", table.index)
    reason[table.duplicated("group")] = SECOND_IMAGE
    reason[table["conflict"]] = CONFLICT
    used = table[reason == ""]
    persons = _stratify(used)
    rng = np.random.default_rng(settings.seed)
    fold = pd.Series(_deal(persons, settings.folds, rng), persons["person"])
    table.loc[used.index, "fold"] = used["person"].map(fold)
    table["split"] = np.where(reason == "", TEST, "")
    table["patient_test"] = reason == ""
    table["excluded"] = reason
    for number in range(settings.folds):
        others = table[(table["fold"] >= 0) & (table["fold"] != number)]
        # Persons validate in one fold only, so that one column has it.
        free = others[others["validation_fold"] < 0]
        share = settings.validation * len(others) / max(len(free), 1)
        drawn = _draw(free, "person", share, settings.seed + number)
        table.loc[free.index[free["person"].isin(drawn)], "validation_fold"] = number
    _require_classes_in_folds(table, data_set, settings)
    return table


def _stratify(used: pd.DataFrame) -> pd.DataFrame:
    """Rows `person`, `class` (the one that most of their images have) and `images`, in an order of names alone."""
    counts = used.groupby(["person", "class"]).size().rename("images").reset_index()
    # Stable sorting, so that of two classes with as many images the first by name is taken.
    counts = counts.sort_values("images", ascending=False, kind="stable")
    persons = counts.drop_duplicates("person").drop(columns="images")
    images = used.groupby("person").size().rename("images").reset_index()
    return persons.merge(images, on="person").sort_values("person", ignore_index=True)


def _deal(persons: pd.DataFrame, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each person, dealt within each class, the persons with most images first, to the smallest fold."""
    fold = np.zeros(len(persons), int)
    total = np.zeros(folds)
    for _, mine in persons.groupby("class"):
        shuffled = mine.iloc[rng.permutation(len(mine))]
        held = np.zeros(folds)
        for row in shuffled.sort_values("images", ascending=False, kind="stable").itertuples():
            # Of folds that hold as many of the class, the one with the fewest images of all classes.
            smallest = int(np.lexsort((total, held))[0])
            fold[row.Index] = smallest
            held[smallest] += row.images
            total[smallest] += row.images
    return fold


def _draw(images: pd.DataFrame, unit: str, share: float, seed: int) -> set[str]:
    """Groups or persons for validation: in each class, drawn at random until they hold the fraction of its images."""
    rng = np.random.default_rng(seed)
    drawn: set[str] = set()
    for _, part in images.sort_values("file").groupby("class"):
        sizes = part.groupby(unit, sort=True).size()
        sizes = sizes.iloc[rng.permutation(len(sizes))]
        drawn |= set(sizes.index[sizes.cumsum() - sizes < share * len(part)])
    return drawn


def _require_classes_in_folds(table: pd.DataFrame, data_set: ImageSet, settings: ImageSplitSettings) -> None:
    used = table[table["fold"] >= 0]
    for number in range(settings.folds):
        for name in (TRAIN, VALIDATION, TEST):
            there = set(used.loc[sets_of_fold(used, number) == name, "class"])
            missing = [kind for kind in data_set.classes if kind not in there]
            if missing:
                persons = used.loc[used["class"] == missing[0], "person"].nunique()
                raise ValueError(
                    f"the {name} set of fold {number + 1} of {settings.folds} has no image of {missing[0]}, of which "
                    f"there are {persons} patients or groups of duplicates; lower `data_classification.split.folds`, "
                    f"or set `data_classification.split.policy` to {DEDUPLICATED}"
                )


def count_folds(splits: pd.DataFrame) -> int:
    """Number of networks that a training makes: one for each fold, or one."""
    return max(1, int(splits["fold"].max()) + 1)


def sets_of_fold(splits: pd.DataFrame, fold: int) -> pd.Series:
    """The set of each image in the training of one fold; without folds, that of the only training."""
    if splits["fold"].max() < 0:
        return splits["split"]
    used = splits["fold"] >= 0
    chosen = [splits["fold"] == fold, splits["validation_fold"] == fold, used]
    return pd.Series(np.select(chosen, [TEST, VALIDATION, TRAIN], ""), splits.index)


def list_test_sets(splits: pd.DataFrame) -> tuple[str, ...]:
    """The test sets that have images, the one with the fewest leaks first."""
    return tuple(name for name, column in zip(TEST_SETS, IN_TEST, strict=True) if splits[column].any())


def name_fold(fold: int) -> str:
    """A fold as people count, from 1; "not used" for -1."""
    return f"fold {fold + 1}" if fold >= 0 else "not used"
