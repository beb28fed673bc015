"""Splits by person: no patient is in two sets, nor are two scans of one."""

import logging
from math import ceil

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from brain_tumor.data.common.sets import TEST, TRAIN, VALIDATION, join_groups

logger = logging.getLogger(__name__)


class SplitSettings(BaseModel, frozen=True, extra="forbid"):
    """How persons are split.

    Attributes:
        validation: fraction of the persons, one at least.
        test: the same; the rest is for training.
        folds: for cross-validation, each patient in one.
    """

    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)
    folds: int = Field(5, ge=2)
    seed: int = 0


def find_persons(patients: pd.Series, named: pd.Series, files: pd.DataFrame) -> pd.Series:
    """The person of each patient: two of whom names or files are the same are one.

    Args:
        patients: their names.
        named: the person that each name stands for.
        files: rows `patient` and `hash`, for each file that is used.
    """
    number = {patient: row for row, patient in enumerate(patients)}
    # An empty hash is that of a file that could not be read.
    readable = files[files["hash"] != ""].drop_duplicates()
    alike = readable.groupby("hash")["patient"].agg(list)
    same = set()
    for first, *others in alike:
        same |= {(first, other) for other in others}
    pairs = []
    for first, other in sorted(same):
        logger.warning("%s and %s have the same files: they are taken for one person", first, other)
        pairs.append((number[first], number[other]))
    for person in named.unique():
        first, *others = np.flatnonzero(named == person).tolist()
        pairs += [(first, other) for other in others]
    # Pairs chain: if one name of a person shares files with another person, both are one.
    linked = np.array(pairs, np.int64).reshape(-1, 2)
    group = join_groups(len(patients), linked[:, 0], linked[:, 1])
    return named.groupby(group).transform("min")


def split_patients(patients: pd.DataFrame, settings: SplitSettings) -> pd.DataFrame:
    """Each patient's set and fold, as a table `patient`, `person`, `split`, `fold`.

    Persons are drawn, with all that is there of them.

    Every set and every fold spans the grades and the tumour volumes evenly. A function of the patients and the
    seed, not of the order of the rows.

    Args:
        patients: rows `patient`, `person`, and `grade` and `tumour_ml` to stratify by.

    Raises:
        ValueError: if there are fewer than three persons, or the fractions leave none for training.
    """
    by_person = patients.groupby("person", as_index=False)
    persons = by_person.agg(grade=("grade", "max"), tumour_ml=("tumour_ml", "mean"))
    count = len(persons)
    if count < 3:
        raise ValueError(
            f"a split needs at least 3 patients (train, validation, test), got {count}: "
            f"{persons['person'].tolist()}; add scans to the source"
        )
    test = max(1, round(settings.test * count))
    validation = max(1, round(settings.validation * count))
    if test + validation >= count:
        raise ValueError(
            f"fractions test={settings.test} and validation={settings.validation} leave no patient of "
            f"{count} for training"
        )
    rng = np.random.default_rng(settings.seed)
    # Neighbours in this order are alike, so that one of each stretch makes an even sample.
    ordered = persons.sort_values(["grade", "tumour_ml", "person"], ignore_index=True)
    sets = np.full(count, TRAIN, dtype=object)
    # The test set first: it stays the same whatever the size of the validation set.
    for name, size in ((TEST, test), (VALIDATION, validation)):
        candidates = np.flatnonzero(sets == TRAIN)
        sets[_one_of_each(candidates, size, rng)] = name
    # Each stretch of as many neighbours as there are folds has one person in each fold.
    stretches = ceil(count / settings.folds)
    permutations = [rng.permutation(settings.folds) for _ in range(stretches)]
    folds = np.concatenate(permutations)
    drawn = pd.DataFrame(
        {
            "person": ordered["person"],
            "split": sets,
            "fold": folds[:count],
        }
    )
    table = patients[["patient", "person"]].merge(drawn, on="person")
    return table.sort_values("patient", ignore_index=True)


def _one_of_each(candidates: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """One drawn from each of `size` stretches of neighbours."""
    stretches = np.array_split(candidates, size)
    return np.array([rng.choice(stretch) for stretch in stretches])
