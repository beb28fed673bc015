"""Splits by patient: no patient is in two sets."""

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

TRAIN, VALIDATION, TEST = "train", "validation", "test"


class SplitSettings(BaseModel, frozen=True, extra="forbid"):
    """How patients are split.

    Attributes:
        validation: fraction of the patients, one at least.
        test: the same; the rest is for training.
        folds: for cross-validation, each patient in one.
    """

    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)
    folds: int = Field(5, ge=2)
    seed: int = 0


def split_patients(patients: pd.DataFrame, settings: SplitSettings) -> pd.DataFrame:
    """Each patient's set and fold, as a table `patient`, `split`, `fold`.

    Every set and every fold spans the grades and the tumour volumes evenly. A function of the patients and the
    seed, not of the order of the rows.

    Args:
        patients: rows `patient`, and `grade` and `tumour_ml` to stratify by.

    Raises:
        ValueError: if there are fewer than three patients, or the fractions leave none for training.
    """
    count = len(patients)
    if count < 3:
        raise ValueError(f"a split needs at least 3 patients (train, validation, test), got {count}: {patients['patient'].tolist()}; add scans to the source")
    test, validation = (max(1, round(fraction * count)) for fraction in (settings.test, settings.validation))
    if test + validation >= count:
        raise ValueError(f"fractions test={settings.test} and validation={settings.validation} leave no patient of {count} for training")
    rng = np.random.default_rng(settings.seed)
    ordered = patients.sort_values(["grade", "tumour_ml", "patient"], ignore_index=True)
    sets = np.full(count, TRAIN, dtype=object)
    for name, size in ((TEST, test), (VALIDATION, validation)):
        sets[_one_of_each(np.flatnonzero(sets == TRAIN), size, rng)] = name
    folds = np.concatenate([rng.permutation(settings.folds) for _ in range(-(-count // settings.folds))])[:count]
    return pd.DataFrame({"patient": ordered["patient"], "split": sets, "fold": folds}).sort_values("patient", ignore_index=True)


def _one_of_each(candidates: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """One drawn from each of `size` stretches of neighbours."""
    return np.array([rng.choice(stretch) for stretch in np.array_split(candidates, size)])
