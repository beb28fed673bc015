"""How well two measurements of the same patients agree."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

FEWEST = 5
"""Patients from which on limits of agreement and a correlation are given."""


def compare_measurements(first: pd.DataFrame, second: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """What changes when the second measurement takes the place of the first, a row for each name.

    Args:
        first: a row for each `patient`, a column for each name; NaN where there is no value.
        second: the same; patients may be others, those in both are compared.

    Returns:
        Rows `feature`, `patients`, `first` and `second` (means), `bias` (mean of second - first), `low`, `high` (95 %
        limits of agreement, Bland & Altman 1986: where the difference of a single patient falls), `correlation`
        (Pearson); these three NaN for fewer than FEWEST patients.
    """
    both = first.merge(second, on="patient", suffixes=("_first", "_second"))
    rows = []
    for name in names:
        a, b = both[[f"{name}_first", f"{name}_second"]].dropna().to_numpy(float).T
        change = b - a
        spread = 1.96 * change.std(ddof=1) if len(a) >= FEWEST else np.nan
        means = (a.mean(), b.mean(), change.mean()) if len(a) else (np.nan,) * 3
        correlation = np.corrcoef(a, b)[0, 1] if len(a) >= FEWEST and a.std() > 0 and b.std() > 0 else np.nan
        rows.append((name, len(a), *means, means[2] - spread, means[2] + spread, correlation))
    return pd.DataFrame(rows, columns=["feature", "patients", "first", "second", "bias", "low", "high", "correlation"])
