"""Agreement of two measurements on the same patients (Bland-Altman)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

MIN_PATIENTS = 5
"""Patients needed for limits of agreement and a correlation."""


def compare_measurements(
    first: pd.DataFrame,
    second: pd.DataFrame,
    names: Sequence[str],
) -> pd.DataFrame:
    """Bias, limits of agreement and correlation of two measurements, a row for each name.

    Args:
        first: a row for each `patient`, a column for each name; NaN where there is no value.
        second: the same. Only patients in both tables are compared.

    Returns:
        Rows `feature`, `patients`, `first` and `second` (means), `bias` (mean of second - first), `low`, `high` (95 %
        limits of agreement: where the difference of a single patient falls), `correlation` (Pearson); the last three
        are NaN for fewer than MIN_PATIENTS patients.

    Source: Bland & Altman 1986, Lancet 327:307-310.
    """
    both = first.merge(second, on="patient", suffixes=("_first", "_second"))
    rows = []
    for name in names:
        # A patient needs both values: agreement is of pairs.
        pairs = both[[f"{name}_first", f"{name}_second"]].dropna()
        of_first, of_second = pairs.to_numpy(float).T
        row = {"feature": name, "patients": len(pairs)}
        rows.append(row | _agreement(of_first, of_second))
    columns = ["feature", "patients", "first", "second", "bias", "low", "high", "correlation"]
    return pd.DataFrame(rows, columns=columns)


def _agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    if not len(first):
        # NaN for every other column, as pandas fills what a row lacks.
        return {}
    change = second - first
    bias = change.mean()
    row = {"first": first.mean(), "second": second.mean(), "bias": bias}
    if len(first) < MIN_PATIENTS:
        return row
    spread = 1.96 * change.std(ddof=1)
    row |= {"low": bias - spread, "high": bias + spread}
    # A correlation with a constant isn't defined.
    if first.std() > 0 and second.std() > 0:
        matrix = np.corrcoef(first, second)
        row["correlation"] = matrix[0, 1]
    return row
