import numpy as np
import pandas as pd
import pytest

from brain_tumor.data.common.parallel import WorkerSettings
from brain_tumor.data.survival.cohort import FEATURE_SETS, SHAPE
from brain_tumor.survival import cross_validation as validation
from brain_tumor.survival import evaluation
from brain_tumor.survival.cross_validation import (
    COMPARED,
    EXPLAINED,
    Cohort,
    assign_folds,
    cross_validate,
    cross_validate_permuted,
)
from brain_tumor.survival.settings import BASELINE, HEADLINE, ProtocolSettings

HERE = WorkerSettings(workers=1)
SETTINGS = ProtocolSettings(folds=3, min_deaths=40, repeats=2, permutations=20, bootstrap=200)


def cohort(rng, count=100, shape_effect=0.0, age_effect=0.04):
    """Days that fall with age and with the core's volume as much as asked."""
    table = pd.DataFrame(rng.normal(size=(count, len(FEATURE_SETS["all"]))), columns=FEATURE_SETS["all"])
    table["age"] = rng.normal(60, 10, count)
    table[["gtr", "hgg"]] = 1.0
    days = np.exp(
        6 - age_effect * (table["age"] - 60) - shape_effect * table["TC_ml"] + rng.normal(0, 0.4, count)
    ).to_numpy()
    table = table.mask(pd.DataFrame(rng.random(table.shape) < 0.02, columns=table.columns))
    return Cohort("all patients", [f"p{k:03d}" for k in rng.permutation(count)], table, days, rng.random(count) < 0.9)


@pytest.fixture
def few(monkeypatch):
    """Three models instead of all."""
    monkeypatch.setattr(validation, "COMPARED", (BASELINE, ("Cox", "shape"), HEADLINE))


@pytest.fixture(scope="module")
def telling():
    """A cohort whose shape says much, and what models expect of it."""
    made = cohort(np.random.default_rng(1), shape_effect=0.5)
    return made, *cross_validate(made, SETTINGS, HERE)


def test_more_patients_than_features_are_asked_for():
    with pytest.raises(
        ValueError, match=r"fewer patients than features \(22\): with 3 folds min_deaths must be 35, got 30"
    ):
        ProtocolSettings(folds=3)
    assert ProtocolSettings(folds=3, min_deaths=35)


def test_folds_are_stratified_and_a_function_of_seed_and_repeat(rng):
    days = rng.exponential(400, 103)
    folds = assign_folds(days, SETTINGS, 0)
    assert set(np.bincount(folds)) == {34, 35}
    for k in range(3):
        assert np.median(days[folds == k]) == pytest.approx(np.median(days), rel=0.15)
    assert np.array_equal(folds, assign_folds(days, SETTINGS, 0))
    assert not np.array_equal(folds, assign_folds(days, SETTINGS, 1))


def test_every_patient_is_estimated_once_in_each_repeat(telling):
    made, estimates, _ = telling
    for pair in made.compared:
        mine = estimates[(estimates["model"] == pair[0]) & (estimates["features"] == pair[1])]
        assert len(mine) == 200
        assert not mine.duplicated(["repeat", "patient"]).any()
    assert estimates[["days", "risk"]].notna().all().all()
    curves = estimates.loc[estimates["model"].isin(["Cox", "log-normal AFT"]), ["alive_at_horizon", "alive_at_own"]]
    assert curves.min().min() >= 0
    assert curves.max().max() <= 1


def test_resection_and_grade_are_left_out_where_all_are_alike(telling, rng):
    made = telling[0]
    assert made.compared == [pair for pair in COMPARED if pair[1] != "all"]
    mixed = made.table.assign(gtr=rng.integers(0, 2, 100).astype(float))
    assert EXPLAINED in Cohort("x", made.patients, mixed, made.days, made.observed).compared


def test_a_patients_own_outcome_never_reaches_his_estimate(telling, few):
    """Other days for the patients of one fold, and other features for one, leave that fold's models as they are."""
    made, estimates, _ = telling
    folds = assign_folds(made.days, SETTINGS, 0)
    fold = np.flatnonzero(folds == 2)
    ranks = np.argsort(np.argsort(made.days))
    days = made.days.copy()
    for k in fold:  # to half the way to the neighbour, so that nobody changes his fold
        lower = made.days[ranks == ranks[k] - 1]
        days[k] = (days[k] + lower[0]) / 2 if lower.size else days[k] * 0.9
    observed = made.observed.copy()
    observed[fold] = ~observed[fold]
    changed = Cohort(made.name, made.patients, made.table, days, observed)
    assert np.array_equal(assign_folds(days, SETTINGS, 0), folds)
    again, _ = cross_validate(changed, SETTINGS.model_copy(update={"repeats": 1}), HERE)
    key = ["model", "features", "patient"]
    merged = estimates[estimates["repeat"] == 0].merge(again, on=key, suffixes=("", "_again"))
    inside = merged["fold"] == 2
    assert merged.loc[inside, "risk"].to_numpy() == pytest.approx(merged.loc[inside, "risk_again"].to_numpy())
    assert not np.allclose(merged.loc[~inside, "risk"], merged.loc[~inside, "risk_again"])


def test_shape_that_tells_is_found(telling):
    made, estimates, losses = telling
    null = evaluation.permutation_gains(made, estimates, cross_validate_permuted(made, SETTINGS, HERE))
    scores, gains = evaluation.score_cohort(made, estimates, null, SETTINGS)
    tested = gains[gains["p"].notna()].set_index("metric")
    assert (tested["low"] > 0).all()
    assert tested["p"].tolist() == pytest.approx([1 / 21, 1 / 21])
    assert (tested["null_95"] < tested["gain"]).all()
    assert (tested["fold_gain"] > 0).all()
    assert (tested["fold_low"] < tested["fold_gain"]).all()
    assert set(scores["patients"]) == {100}
    assert set(scores["deaths"]) == {made.observed.sum()}
    importances = evaluation.summarise_importance(losses)
    assert set(importances["feature"].head(2)) == {"age", "TC_ml"}
    assert importances["low"].iloc[0] > 0
    assert set(importances["feature"]) == {"age", *SHAPE}


def test_shape_that_says_nothing_gains_nothing(few):
    made = cohort(np.random.default_rng(2))
    estimates, _ = cross_validate(made, SETTINGS, HERE)
    null = evaluation.permutation_gains(made, estimates, cross_validate_permuted(made, SETTINGS, HERE))
    scores, gains = evaluation.score_cohort(made, estimates, null, SETTINGS)
    tested = gains[gains["p"].notna()].set_index("metric")
    assert (tested["low"] < 0).all()
    assert (tested["p"] > 0.05).all()
    shape_alone = scores[(scores["features"] == "shape") & (scores["metric"] == "concordance")]
    assert (shape_alone["low"] < 0.5).all()
    assert shape_alone["value"].between(0.4, 0.6).all()
    assert null.loc[null["metric"] == "concordance", "gain"].median() < 0


def test_gain_is_the_difference_of_the_scores(telling):
    made, estimates, _ = telling
    null = pd.DataFrame(
        {"cohort": made.name, "permutation": [0, 0], "metric": ["concordance", "spearman"], "gain": 0.0}
    )
    scores, gains = evaluation.score_cohort(made, estimates, null, SETTINGS)
    value = scores.set_index(["model", "features", "metric"])["value"]
    for row in gains.itertuples():
        assert row.gain == pytest.approx(value[row.model, row.features, row.metric] - value[(*BASELINE, row.metric)])
    assert BASELINE not in set(zip(gains["model"], gains["features"], strict=True))


def test_calibration_and_groups_come_from_held_out_estimates(telling):
    made, estimates, _ = telling
    groups, deaths, p = evaluation.calibrate_curves(made, estimates, HEADLINE)
    assert groups["patients"].sum() == 100
    assert deaths.sum() == pytest.approx(100)
    assert 0 <= p <= 1
    low, middle, high = evaluation.by_risk(evaluation.mean_risk(made, estimates, HEADLINE))
    assert np.median(made.days[low]) > np.median(made.days[middle]) > np.median(made.days[high])
    assert np.corrcoef(np.log(evaluation.mean_days(made, estimates, HEADLINE)), np.log(made.days))[0, 1] > 0.5
