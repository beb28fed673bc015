import numpy as np
import pytest
from scipy.stats import bootstrap

from brain_tumor.metrics.intervals import interval, interval_of_ratio


def test_interval_covers_the_mean_as_often_as_it_says(rng):
    covered = [low <= 0.5 <= high for low, high in (interval(rng.random(40)) for _ in range(100))]
    assert 0.86 <= np.mean(covered) <= 1
    assert np.isnan(interval(np.array([0.5]))).all()


def test_interval_is_scipys(rng):
    values = rng.random(30)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=rng).confidence_interval
    assert interval(values) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_slices_of_one_patient_are_no_independent_evidence(rng):
    """Each value five times over leaves the interval as it was, if the five belong to one patient."""
    values = rng.random(30)
    assert interval_of_ratio(values * 5, np.full(30, 5.0)) == pytest.approx(interval(values))
    narrower = interval(np.repeat(values, 5))
    assert narrower[1] - narrower[0] < 0.6 * (interval(values)[1] - interval(values)[0])
