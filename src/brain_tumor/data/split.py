"""Splits by patient: no patient is in two sets."""

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

TRAIN, VALIDATION, TEST = "train", "validation", "test"


class SplitSettings(BaseModel, frozen=True, extra="forbid"):
    """How patients are split. `validation` and `test`: fractions of the patients; the rest is for training."""

    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)
    seed: int = 0


def split_patients(patients: list[str], settings: SplitSettings) -> pd.DataFrame:
    """Each patient's set, as a table `patient`, `split`; depends on the names and the seed, not on their order.

    Raises:
        ValueError: if there are fewer than three patients, or the fractions leave none for training.
    """
    names = sorted(set(patients))
    if len(names) < 3:
        raise ValueError(f"a split needs at least 3 patients (train, validation, test), got {len(names)}: {names}; add scans to the source")
    test, validation = (max(1, round(fraction * len(names))) for fraction in (settings.test, settings.validation))
    if test + validation >= len(names):
        raise ValueError(f"fractions test={settings.test} and validation={settings.validation} leave no patient of {len(names)} for training")
    sets = np.array([TEST] * test + [VALIDATION] * validation + [TRAIN] * (len(names) - test - validation))
    order = np.random.default_rng(settings.seed).permutation(len(names))
    return pd.DataFrame({"patient": [names[k] for k in order], "split": sets}).sort_values("patient", ignore_index=True)
