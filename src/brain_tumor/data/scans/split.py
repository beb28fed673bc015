"""Splits by person: no patient is in two sets, nor are two scans of one."""

import logging

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
    number = dict(zip(patients, range(len(patients)), strict=True))
    alike = files[files["hash"] != ""].drop_duplicates().groupby("hash")["patient"].agg(list)
    same = sorted({(names[0], other) for names in alike for other in names[1:]})
    for first, other in same:
        logger.warning("%s and %s have the same files: they are taken for one person", first, other)
    pairs = [(number[first], number[other]) for first, other in same]
    pairs += [
        (rows[0], other)
        for rows in (np.flatnonzero(named == person) for person in named.unique())
        for other in rows[1:]
    ]
    group = join_groups(len(patients), *np.array(pairs, np.int64).reshape(-1, 2).T)
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
    persons = patients.groupby("person", as_index=False).agg(grade=("grade", "max"), tumour_ml=("tumour_ml", "mean"))
    count = len(persons)
    if count < 3:
        raise ValueError(
            f"a split needs at least 3 patients (train, validation, test), got {count}: "
            f"{persons['person'].tolist()}; add scans to the source"
        )
    test, validation = (max(1, round(fraction * count)) for fraction in (settings.test, settings.validation))
    if test + validation >= count:
        raise ValueError(
            f"fractions test={settings.test} and validation={settings.validation} leave no patient of "
            f"{count} for training"
        )
    rng = np.random.default_rng(settings.seed)
    ordered = persons.sort_values(["grade", "tumour_ml", "person"], ignore_index=True)
    sets = np.full(count, TRAIN, dtype=object)
    for name, size in ((TEST, test), (VALIDATION, validation)):
        sets[_one_of_each(np.flatnonzero(sets == TRAIN), size, rng)] = name
    folds = np.concatenate([rng.permutation(settings.folds) for _ in range(-(-count // settings.folds))])[:count]
    drawn = pd.DataFrame({"person": ordered["person"], "split": sets, "fold": folds})
    return patients[["patient", "person"]].merge(drawn, on="person").sort_values("patient", ignore_index=True)


def _one_of_each(candidates: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """One drawn from each of `size` stretches of neighbours."""
    return np.array([rng.choice(stretch) for stretch in np.array_split(candidates, size)])
