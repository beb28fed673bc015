import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import concordance_index
from scipy import stats

from brain_tumor.metrics.intervals import percentiles
from brain_tumor.metrics.survival import (
    SCORES,
    SurvivalPredictions,
    accuracy,
    alive_at,
    calibrate,
    classes,
    concordance,
    concordances,
    corrected_interval,
    d_calibration,
    kaplan_meier,
    mean_squared_error,
    median_squared_error,
    score,
    spearman,
)

ONCE = np.ones((1, 5))


def expected(days, observed, guess, risk=None):
    guess = np.atleast_2d(np.asarray(guess, float))
    return SurvivalPredictions(
        np.asarray(days, float), np.asarray(observed, bool), guess, -guess if risk is None else np.atleast_2d(risk)
    )


@pytest.fixture
def drawn(rng):
    """60 patients, a quarter of them alive, days with ties; three repeats of guesses, some of them equal."""
    days = rng.integers(1, 40, 60).astype(float)
    guess = np.round(days + rng.normal(0, 15, (3, 60)), -1)
    return SurvivalPredictions(days, rng.random(60) < 0.75, guess, -guess)


def test_classes_of_brats():
    assert classes(np.array([5, 299, 299.9, 300, 450, 450.5, 451])).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_scores_by_hand():
    of = expected([100, 200, 400, 500, 900], [1, 1, 1, 1, 1], [150, 320, 400, 430, 700])
    assert accuracy(ONCE, of) == pytest.approx([3 / 5])  # 320 and 430 are taken for medium
    assert mean_squared_error(ONCE, of) == pytest.approx([(50**2 + 120**2 + 0 + 70**2 + 200**2) / 5])
    assert median_squared_error(ONCE, of) == pytest.approx([70**2])
    assert spearman(ONCE, of) == pytest.approx([1])
    assert concordance(ONCE, of) == pytest.approx([1])


def test_the_living_count_in_concordance_alone():
    of = expected([100, 200, 400, 500, 900], [1, 0, 1, 0, 1], [100, 9999, 500, 450, 900])
    assert mean_squared_error(ONCE, of) == pytest.approx([100**2 / 3])
    assert accuracy(ONCE, of) == pytest.approx([2 / 3])
    assert spearman(ONCE, of) == pytest.approx([1])
    # pairs: 100 before each of four; 400 before 500+ (wrong) and before 900
    assert concordance(ONCE, of) == pytest.approx([5 / 6])


def test_scores_agree_with_lifelines_and_scipy(drawn):
    once = np.ones((1, 60))
    by_repeat = [concordance_index(drawn.days, -risk, drawn.observed) for risk in drawn.risk]
    assert concordance(once, drawn) == pytest.approx([np.mean(by_repeat)])
    seen = drawn.observed
    ranks = [stats.spearmanr(drawn.days[seen], guess[seen])[0] for guess in drawn.predicted]
    assert spearman(once, drawn) == pytest.approx([np.mean(ranks)])
    medians = [np.median((guess - drawn.days)[seen] ** 2) for guess in drawn.predicted]
    assert median_squared_error(once, drawn) == pytest.approx([np.mean(medians)])
    assert concordances(drawn.days, drawn.observed, drawn.risk) == pytest.approx(by_repeat)


@pytest.mark.parametrize("name", SCORES)
def test_a_weight_is_how_often_a_patient_is_there(drawn, rng, name):
    """A bootstrap sample by its weights scores as the sample itself."""
    chosen = rng.integers(0, 60, 60)
    sample = SurvivalPredictions(
        drawn.days[chosen], drawn.observed[chosen], drawn.predicted[:, chosen], drawn.risk[:, chosen]
    )
    weights = np.bincount(chosen, minlength=60)[None].astype(float)
    assert SCORES[name](weights, drawn) == pytest.approx(SCORES[name](np.ones((1, 60)), sample))


def test_samples_are_the_same_for_every_model(drawn):
    first, again = score(drawn, 200, seed=3), score(drawn, 200, seed=3)
    assert first.equals(again)
    assert len(first) == 201
    low, high = percentiles(first["concordance"].to_numpy()[1:], 60)
    assert low < first["concordance"][0] < high


def test_one_guess_for_all_orders_nobody(drawn):
    of = SurvivalPredictions(drawn.days, drawn.observed, np.full((2, 60), 20.0), np.zeros((2, 60)))
    assert concordance(np.ones((1, 60)), of) == pytest.approx([0.5])
    assert np.isnan(spearman(np.ones((1, 60)), of)).all()


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says(rng):
    """Concordance of two normal variables of known correlation: 1/2 + asin(r)/pi."""
    r, covered = 0.5, []
    for _ in range(120):
        risk = rng.normal(size=80)
        days = np.exp(-r * risk + np.sqrt(1 - r**2) * rng.normal(size=80))
        low, high = percentiles(
            score(SurvivalPredictions(days, np.ones(80, bool), days[None], risk[None]), 300)["concordance"].to_numpy()[
                1:
            ],
            80,
        )
        covered.append(low <= 0.5 + np.arcsin(r) / np.pi <= high)
    assert 0.88 <= np.mean(covered) <= 1


def test_corrected_interval_by_hand():
    differences = np.array([[1.0, 2, 3], [2, 3, 4]])
    mean, low, high = corrected_interval(differences)
    half = stats.t.ppf(0.975, 5) * np.std(differences, ddof=1) * np.sqrt(1 / 6 + 1 / 2)
    assert (mean, low, high) == pytest.approx((2.5, 2.5 - half, 2.5 + half))
    # A fold in which nothing is ordered says nothing.
    assert corrected_interval(np.array([[1.0, np.nan, 3], [2, 3, 4]]))[0] == pytest.approx(2.6)
    assert np.isnan(corrected_interval(np.full((2, 3), np.nan))).all()


def test_kaplan_meier_by_hand():
    curve = kaplan_meier(np.array([10.0, 20, 20, 30, 40]), np.array([True, True, False, True, False]))
    assert alive_at(curve, 5)[0] == 1
    assert alive_at(curve, 10)[0] == pytest.approx(4 / 5)
    assert alive_at(curve, 29)[0] == pytest.approx(4 / 5 * 3 / 4)
    assert alive_at(curve, 40)[0] == pytest.approx(4 / 5 * 3 / 4 * 1 / 2)
    assert (curve["low"] <= curve["alive"]).all()
    assert (curve["high"] >= curve["alive"]).all()


def test_kaplan_meier_is_that_of_lifelines(rng):
    """With ties, before the first death, after the last one, and where nobody or everybody died."""
    for count, deaths, scale in product((1, 2, 7, 40), (0.0, 0.3, 0.8, 1.0), (5, 400)):
        days, observed = np.round(rng.exponential(scale, count)), rng.random(count) < deaths
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lifelines
            fitter = KaplanMeierFitter().fit(days, observed)
        curve = kaplan_meier(days, observed)
        assert curve["day"].tolist() == fitter.survival_function_.index.tolist()
        expected = pd.concat([fitter.survival_function_, fitter.confidence_interval_], axis=1).ffill()
        np.testing.assert_allclose(curve[["alive", "low", "high"]], expected, rtol=0, atol=3e-15)


def test_nothing_is_known_after_the_last_patient_was_seen():
    alive, dead = (kaplan_meier(np.array([10.0, 20, 40]), np.array([True, True, last])) for last in (False, True))
    assert np.isnan(alive_at(alive, 41)).all()
    assert alive_at(dead, 41)[0] == 0
    assert np.isnan(alive_at(dead, 41)[1:]).all()
    assert alive_at(alive, 5)[0] == 1
    assert np.isnan(alive_at(alive, 5)[1:]).all()  # nobody has died yet


def test_calibration_sees_what_is_too_hopeful(rng):
    hazard = rng.uniform(0.5, 2, 600)
    days, observed = rng.exponential(365 / hazard), np.ones(600, bool)
    true, hopeful = np.exp(-hazard), np.exp(-hazard / 3)
    groups = calibrate(true, days, observed, 365, 5)
    assert groups["patients"].tolist() == [120] * 5
    assert ((groups["low"] <= groups["expected"]) & (groups["expected"] <= groups["high"])).sum() >= 4
    assert (
        calibrate(hopeful, days, observed, 365, 5)["high"] < calibrate(hopeful, days, observed, 365, 5)["expected"]
    ).all()


def test_d_calibration(rng):
    days, end = rng.exponential(1, 2000), rng.exponential(2, 2000)
    observed, last = days <= end, np.minimum(days, end)
    deaths, p = d_calibration(np.exp(-last), observed)
    assert deaths.sum() == pytest.approx(2000)
    assert p > 0.01
    assert d_calibration(np.exp(-last / 2), observed)[1] < 1e-6


def test_d_calibration_of_the_living_by_hand():
    """Alive at 0.25: two fifths of a death in each of the first two tenths, a fifth in the third."""
    deaths, _ = d_calibration(np.array([0.25, 0.95]), np.array([False, True]))
    assert deaths == pytest.approx([0.4, 0.4, 0.2, 0, 0, 0, 0, 0, 0, 1])


def test_nobody_to_compare_gives_no_concordance():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(concordances(np.array([1.0, 2.0]), np.array([False, False]), np.zeros((1, 2)))).all()
