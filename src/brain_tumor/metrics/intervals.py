"""How sure a mean over patients is: percentile bootstrap, patients drawn with replacement."""

import numpy as np
from jaxtyping import Float

RESAMPLES = 5000


def interval(values: Float[np.ndarray, " n"], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over patients; NaN for fewer than two."""
    return interval_of_ratio(values, np.ones(len(values)), seed)


def interval_of_ratio(sums: Float[np.ndarray, " n"], counts: Float[np.ndarray, " n"], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean over slices, whose patients are drawn: slices of one patient are no independent evidence.

    Args:
        sums: of each patient, over his slices.
        counts: of each patient's slices.
    """
    if len(sums) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)
