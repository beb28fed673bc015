"""95 % intervals of scores over patients: expanded percentile bootstrap, patients drawn with replacement.

Plain percentiles of few patients are too narrow. Expanded ones correct for Student's t and for the n - 1 of the
standard deviation.

Source: Hesterberg 2015, arXiv:1411.5279.
"""

import numpy as np
import pandas as pd
import scipy  # its parts are imported when used
from jaxtyping import Float

RESAMPLES = 5000

Weights = Float[np.ndarray, "r n"]
"""Multiplicity of each of n patients or images in each of r bootstrap samples."""


def draw_units(unit: np.ndarray, resamples: int, seed: int = 0) -> Weights:
    """Bootstrap weights of patients or images, from units drawn with replacement.

    Args:
        unit: of each: itself, or the person that an image is of.
    """
    codes, names = pd.factorize(unit)
    count = len(names)
    # Multinomial counts are how often each unit is drawn with replacement.
    equal = np.full(count, 1 / count)
    drawn = np.random.default_rng(seed).multinomial(count, equal, resamples)
    return drawn[:, codes].astype(np.float64)


def percentiles(resampled: Float[np.ndarray, " r"], count: int) -> tuple[float, float]:
    """95 % interval of a score from its values in bootstrap samples; NaN where they are all equal.

    Args:
        resampled: NaN in samples without a score.
        count: number of resampled units: patients, or groups of near-duplicates.
    """
    values = resampled[np.isfinite(resampled)]
    # Where all samples agree, as for a perfect score, a width of 0 would claim certainty.
    if not len(values) or np.allclose(values, values[0], rtol=1e-9, atol=1e-12):
        return float("nan"), float("nan")
    quantile = scipy.stats.t.ppf(0.975, count - 1)
    widening = np.sqrt(count / (count - 1))
    tail = scipy.stats.norm.cdf(-widening * quantile)
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def interval(values: Float[np.ndarray, " n"], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean over patients; NaN for fewer than two patients, and for equal values."""
    return interval_of_ratio(values, np.ones(len(values)), seed)


def interval_of_ratio(
    sums: Float[np.ndarray, " n"],
    counts: Float[np.ndarray, " n"],
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of a mean over slices; NaN for fewer than two patients.

    Args:
        sums: sum of the score over the slices of each patient.
        counts: number of slices of each patient.
    """
    if len(sums) < 2:
        return float("nan"), float("nan")
    # Patients are resampled, because slices of one patient aren't independent.
    patients = len(sums)
    drawn = np.random.default_rng(seed).integers(0, patients, (RESAMPLES, patients))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return percentiles(means, patients)
