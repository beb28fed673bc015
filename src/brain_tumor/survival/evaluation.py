"""Evaluation of held-out survival predictions: scores, gains over age, permutation null, calibration, importances."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from brain_tumor.metrics.intervals import percentiles
from brain_tumor.metrics.survival import (
    SCORES,
    SurvivalPredictions,
    calibrate,
    concordance,
    corrected_interval,
    d_calibration,
    score,
    spearman,
)
from brain_tumor.survival.cross_validation import Cohort
from brain_tumor.survival.settings import BASELINE, HEADLINE, HORIZON, ProtocolSettings

RANK_SCORES = {"concordance": concordance, "spearman": spearman}
"""Scores of which gains are reported: how well patients are ranked."""

GROUPS = 5
"""Groups of patients in the calibration table."""

Pair = tuple[str, str]
"""A model and its feature set, such as ("Cox", "age + shape")."""


def survival_predictions(cohort: Cohort, estimates: pd.DataFrame, pair: Pair) -> SurvivalPredictions:
    """Held-out predictions of one model in each repeat, in the order of the cohort's patients."""
    days = _by_repeat(cohort, estimates, pair, "days")
    risk = _by_repeat(cohort, estimates, pair, "risk")
    return SurvivalPredictions(cohort.days, cohort.observed, days, risk)


def _by_repeat(
    cohort: Cohort,
    estimates: pd.DataFrame,
    pair: Pair,
    column: str,
) -> Float[np.ndarray, "r n"]:
    own = _select(cohort, estimates, pair)
    wide = own.pivot(index="repeat", columns="patient", values=column)
    # A pivot sorts its columns by name.
    return wide[list(cohort.patients)].to_numpy()


def _select(cohort: Cohort, estimates: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    model, features = pair
    own = estimates[estimates["cohort"] == cohort.name]
    return own[(own["model"] == model) & (own["features"] == features)]


def score_cohort(
    cohort: Cohort,
    estimates: pd.DataFrame,
    permutation_null: pd.DataFrame,
    settings: ProtocolSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of every model, and gains over BASELINE, with intervals.

    Returns:
        Rows `cohort`, `model`, `features`, `metric`, `value`, `low`, `high`, `patients`, `deaths`.
        Rows `cohort`, `model`, `features`, `metric`, `gain`, `low`, `high` (paired bootstrap over patients), and for
        HEADLINE `fold_gain`, `fold_low`, `fold_high` (corrected resampled t-test), `null_95` (95th percentile of the
        permutation null) and `p` (one-sided).
    """
    # One seed for all: the models' samples hold the same patients, so that gains are paired.
    samples = {}
    for pair in cohort.compared:
        predictions = survival_predictions(cohort, estimates, pair)
        samples[pair] = score(predictions, settings.bootstrap, settings.seed)
    patients = len(cohort.days)
    size = {"patients": patients, "deaths": int(cohort.observed.sum())}
    scores, gains = [], []
    for (model, features), sample in samples.items():
        row = {"cohort": cohort.name, "model": model, "features": features}
        for metric in SCORES:
            value = {"metric": metric, "value": sample[metric][0]}
            interval = bootstrap_interval(sample[metric], patients)
            scores.append(row | value | interval | size)
        # The null model ranks nobody.
        if (model, features) == BASELINE or model == "median":
            continue
        for metric in RANK_SCORES:
            gain = sample[metric] - samples[BASELINE][metric]
            value = {"metric": metric, "gain": gain[0]}
            gained = row | value | bootstrap_interval(gain, patients)
            # Tests are for the primary analysis alone; its model was chosen before any result was seen.
            if (model, features) == HEADLINE:
                gained |= _fold_gain(cohort, estimates, metric)
                gained |= _permutation_test(cohort, permutation_null, metric, gain[0])
            gains.append(gained)
    return pd.DataFrame(scores), pd.DataFrame(gains)


def bootstrap_interval(sample: pd.Series, patients: int) -> dict[str, float]:
    """`low` and `high` of a score, from the score itself followed by its values in bootstrap samples."""
    low, high = percentiles(sample.to_numpy()[1:], patients)
    return {"low": low, "high": high}


def _fold_gain(cohort: Cohort, estimates: pd.DataFrame, metric: str) -> dict[str, float]:
    """HEADLINE's gain, with one fit of each model compared inside each fold."""
    headline = _score_folds(cohort, _select(cohort, estimates, HEADLINE), metric)
    baseline = _score_folds(cohort, _select(cohort, estimates, BASELINE), metric)
    own = estimates[estimates["cohort"] == cohort.name]
    repeats = own["repeat"].nunique()
    # Folds come repeat by repeat.
    differences = np.subtract(headline, baseline).reshape(repeats, -1)
    gain, low, high = corrected_interval(differences)
    return {"fold_gain": gain, "fold_low": low, "fold_high": high}


def _score_folds(cohort: Cohort, estimates: pd.DataFrame, metric: str) -> list[float]:
    place = {patient: k for k, patient in enumerate(cohort.patients)}
    values = []
    for _, fold in estimates.groupby(["repeat", "fold"]):
        chosen = fold["patient"].map(place).to_numpy()
        risk = fold["risk"].to_numpy()
        days, observed = cohort.days[chosen], cohort.observed[chosen]
        values.append(_rank_score(metric, days, observed, risk))
    return values


def _rank_score(
    metric: str,
    days: np.ndarray,
    observed: np.ndarray,
    risk: np.ndarray,
) -> float:
    # Rank scores use risks only; risks take the place of the predicted days.
    one_repeat = risk[None]
    predictions = SurvivalPredictions(days, observed, one_repeat, one_repeat)
    # Weights of one give the score itself.
    once = np.ones((1, len(days)))
    values = RANK_SCORES[metric](once, predictions)
    return float(values[0])


def _permutation_test(
    cohort: Cohort,
    permutation_null: pd.DataFrame,
    metric: str,
    gain: float,
) -> dict[str, float]:
    own = permutation_null[permutation_null["cohort"] == cohort.name]
    null = own.loc[own["metric"] == metric, "gain"].to_numpy()
    # The true assignment counts as one of the permutations, so that p is never 0.
    at_least = (null >= gain).sum()
    p = (1 + at_least) / (1 + len(null))
    return {"null_95": float(np.percentile(null, 95)), "p": float(p)}


def permutation_gains(cohort: Cohort, estimates: pd.DataFrame, permuted: pd.DataFrame) -> pd.DataFrame:
    """HEADLINE's gain over BASELINE for each permutation of the shape features.

    Returns: rows `cohort`, `permutation`, `metric`, `gain`.
    """
    baseline = _by_repeat(cohort, estimates, BASELINE, "risk")
    rows = []
    for permutation, own in permuted.groupby("permutation"):
        risk = own["risk"].to_numpy()
        # The baseline in the same repeat, whose folds the permutation was cross-validated in.
        baseline_risk = baseline[own["repeat"].iloc[0]]
        for metric in RANK_SCORES:
            with_shape = _rank_score(metric, cohort.days, cohort.observed, risk)
            age_alone = _rank_score(metric, cohort.days, cohort.observed, baseline_risk)
            rows.append(
                {
                    "cohort": cohort.name,
                    "permutation": permutation,
                    "metric": metric,
                    "gain": with_shape - age_alone,
                }
            )
    return pd.DataFrame(rows, columns=["cohort", "permutation", "metric", "gain"])


def calibrate_curves(
    cohort: Cohort,
    estimates: pd.DataFrame,
    pair: Pair,
) -> tuple[pd.DataFrame, np.ndarray, float]:
    """Calibration at HORIZON by groups of patients, and D-calibration: deaths in each tenth, p-value."""
    # A patient has one group and one bin: probabilities of the repeats are averaged before.
    at_horizon = _by_repeat(cohort, estimates, pair, "alive_at_horizon").mean(0)
    at_own = _by_repeat(cohort, estimates, pair, "alive_at_own").mean(0)
    groups = calibrate(at_horizon, cohort.days, cohort.observed, HORIZON, GROUPS)
    deaths, p_value = d_calibration(at_own, cohort.observed)
    return groups, deaths, p_value


def summarise_importance(losses: pd.DataFrame) -> pd.DataFrame:
    """Mean permutation importance (loss of concordance) of each feature and its interval over folds, largest first.

    Returns: rows `cohort`, `feature`, `loss`, `low`, `high`.
    """
    rows = []
    for key, own in losses.groupby(["cohort", "feature"], sort=False):
        by_fold = own.pivot(index="repeat", columns="fold", values="loss").to_numpy()
        rows.append((*key, *corrected_interval(by_fold)))
    table = pd.DataFrame(rows, columns=["cohort", "feature", "loss", "low", "high"])
    return table.sort_values(["cohort", "loss"], ascending=[True, False], ignore_index=True)


def mean_risk(cohort: Cohort, estimates: pd.DataFrame, pair: Pair) -> Float[np.ndarray, " n"]:
    """Each patient's held-out risk as the mean of its rank over the repeats, from 0 to 1."""
    # Ranks, because models of different folds needn't agree on the scale.
    risks = _by_repeat(cohort, estimates, pair, "risk")
    ranks = [pd.Series(risk).rank(pct=True) for risk in risks]
    return np.mean(ranks, axis=0)


def mean_days(cohort: Cohort, estimates: pd.DataFrame, pair: Pair) -> Float[np.ndarray, " n"]:
    """Each patient's held-out predicted days, as the geometric mean over the repeats."""
    log_days = np.log(_by_repeat(cohort, estimates, pair, "days"))
    return np.exp(log_days.mean(0))


def by_risk(risk: Sequence[float] | np.ndarray, groups: int = 3) -> list[np.ndarray]:
    """Indices of the patients in groups of equal size, lowest risk first."""
    # Stable, so that patients of equal risk keep their order on every machine.
    order = np.argsort(np.asarray(risk), kind="stable")
    return np.array_split(order, groups)
