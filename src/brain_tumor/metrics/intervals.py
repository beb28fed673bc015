"""How sure a score over patients is: expanded percentile bootstrap, patients drawn with replacement.

Plain percentiles of few patients lie too close together. These are as far out as Student's t, and division by n - 1 in
the deviation, would put them.

Source: Hesterberg 2015, arXiv:1411.5279.
"""

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Float

RESAMPLES = 5000


def percentiles(resampled: Float[np.ndarray, " r"], count: int) -> tuple[float, float]:
    """95 % interval of a score from its values in bootstrap samples.

    NaN where these all agree, which says nothing of how sure the score is.

    Args:
        resampled: NaN in samples without a score.
        count: of what was drawn: patients, or groups of copies.
    """
    values = resampled[np.isfinite(resampled)]
    if not len(values) or np.allclose(values, values[0], rtol=1e-9, atol=1e-12):
        return float("nan"), float("nan")
    tail = scipy.stats.norm.cdf(-np.sqrt(count / (count - 1)) * scipy.stats.t.ppf(0.975, count - 1))
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def interval(values: Float[np.ndarray, " n"], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over patients; NaN for fewer than two, and where all are equal."""
    return interval_of_ratio(values, np.ones(len(values)), seed)


def interval_of_ratio(
    sums: Float[np.ndarray, " n"], counts: Float[np.ndarray, " n"], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a mean over slices, whose patients are drawn: slices of one patient are no independent evidence.

    Args:
        sums: of each patient, over his slices.
        counts: of each patient's slices.
    """
    if len(sums) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    return percentiles(sums[drawn].sum(1) / counts[drawn].sum(1), len(sums))
