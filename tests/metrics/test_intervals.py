import numpy as np
import pytest
from scipy.stats import bootstrap, norm, t

from brain_tumor.metrics.intervals import interval, interval_of_ratio, percentiles


@pytest.mark.parametrize(("patients", "least"), [(6, 0.89), (12, 0.92), (40, 0.93)])
def test_interval_covers_the_mean_as_often_as_it_says(rng, patients, least):
    """Plain percentiles cover 0.87, 0.90 and 0.93 of these."""
    covered = [low <= 0 <= high for low, high in (interval(rng.normal(size=patients), seed) for seed in range(600))]
    assert least <= np.mean(covered) <= 0.97


def test_interval_is_scipys_with_expanded_percentiles(rng):
    values = rng.random(30)
    level = 1 - 2 * norm.cdf(-np.sqrt(30 / 29) * t.ppf(0.975, 29))
    theirs = bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", n_resamples=20_000, rng=rng
    ).confidence_interval
    assert interval(values) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_percentiles_by_hand():
    """Five patients: t is 2.776, times the root of 5/4 is 3.104; 0.00095 of a normal distribution lie beyond."""
    samples = np.arange(100_001) / 100_000
    assert percentiles(samples, 5) == pytest.approx((0.00095, 0.99905), abs=1e-5)
    assert percentiles(np.append(samples, np.nan), 100_000) == pytest.approx((0.025, 0.975), abs=1e-4)


def test_no_interval_where_nothing_differs():
    for values in ([0.5], [1.0, 1.0, 1.0], [0.1 + 0.2, 0.3, 0.3]):
        assert np.isnan(interval(np.array(values))).all()
    assert np.isnan(percentiles(np.full(5, np.nan), 5)).all()


def test_slices_of_one_patient_are_no_independent_evidence(rng):
    """Each value five times over leaves the interval as it was, if the five belong to one patient."""
    values = rng.random(30)
    assert interval_of_ratio(values * 5, np.full(30, 5.0)) == pytest.approx(interval(values))
    narrower = interval(np.repeat(values, 5))
    assert narrower[1] - narrower[0] < 0.6 * (interval(values)[1] - interval(values)[0])
