"""From what models expected of held-out patients to scores, gains over age alone, what chance gives, calibration and importances."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from brain_tumor.metrics.intervals import percentiles
from brain_tumor.metrics.survival import (
    SCORES,
    Expected,
    calibrate,
    concordance,
    corrected_interval,
    d_calibration,
    score,
    spearman,
)
from brain_tumor.survival.cross_validation import Cohort
from brain_tumor.survival.settings import BASELINE, HEADLINE, HORIZON, ProtocolSettings

ORDERED = {"concordance": concordance, "spearman": spearman}
"""Scores that the answer is about: how well patients are put in order."""

GROUPS = 5
"""Groups of patients by which calibration is shown."""


def survival_predictions(cohort: Cohort, estimates: pd.DataFrame, pair: tuple[str, str]) -> Expected:
    """What one model expected of each patient of the cohort, in each repeat."""
    days, risk = (_by_repeat(cohort, estimates, pair, column) for column in ("days", "risk"))
    return Expected(cohort.days, cohort.observed, days, risk)


def _by_repeat(cohort: Cohort, estimates: pd.DataFrame, pair: tuple[str, str], column: str) -> Float[np.ndarray, "r n"]:
    mine = estimates[
        (estimates["cohort"] == cohort.name) & (estimates["model"] == pair[0]) & (estimates["features"] == pair[1])
    ]
    return mine.pivot(index="repeat", columns="patient", values=column)[list(cohort.patients)].to_numpy()


def score_cohort(
    cohort: Cohort, estimates: pd.DataFrame, chance: pd.DataFrame, settings: ProtocolSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of every model, and gains over BASELINE, with intervals.

    Returns:
        Rows `cohort`, `model`, `features`, `metric`, `value`, `low`, `high`, `patients`, `deaths`; rows `cohort`,
        `model`, `features`, `metric`,
        `gain`, `low`, `high` (bootstrap over patients, in pairs), and for HEADLINE `fold_gain`, `fold_low`, `fold_high`
        (corrected resampled t-test), `chance` (95th percentile with permuted shapes) and `p` (one-sided).
    """
    samples = {
        pair: score(survival_predictions(cohort, estimates, pair), settings.bootstrap, settings.seed)
        for pair in cohort.compared
    }
    size = {"patients": len(cohort.days), "deaths": int(cohort.observed.sum())}
    scores, gains = [], []
    for (model, features), sample in samples.items():
        row = {"cohort": cohort.name, "model": model, "features": features}
        for metric in SCORES:
            low, high = percentiles(sample[metric].to_numpy()[1:], len(cohort.days))
            scores.append(row | {"metric": metric, "value": sample[metric][0], "low": low, "high": high} | size)
        for metric in ORDERED if (model, features) != BASELINE and model != "median" else ():
            gain = (sample[metric] - samples[BASELINE][metric]).to_numpy()
            low, high = percentiles(gain[1:], len(cohort.days))
            gains.append(row | {"metric": metric, "gain": gain[0], "low": low, "high": high})
            if (model, features) == HEADLINE:
                gains[-1] |= _fold_gain(cohort, estimates, metric) | _against_chance(cohort, chance, metric, gain[0])
    return pd.DataFrame(scores), pd.DataFrame(gains)


def _fold_gain(cohort: Cohort, estimates: pd.DataFrame, metric: str) -> dict[str, float]:
    """HEADLINE's gain inside each fold, where one fit of each model is compared with one of the other."""
    mine = estimates[estimates["cohort"] == cohort.name]
    place = {patient: k for k, patient in enumerate(cohort.patients)}
    values = []
    for pair in (HEADLINE, BASELINE):
        folds = mine[(mine["model"] == pair[0]) & (mine["features"] == pair[1])].groupby(["repeat", "fold"])
        values.append(
            [
                _in_fold(cohort, fold["patient"].map(place).to_numpy(), fold["risk"].to_numpy(), metric)
                for _, fold in folds
            ]
        )
    differences = np.subtract(values[0], values[1]).reshape(mine["repeat"].nunique(), -1)
    return dict(zip(("fold_gain", "fold_low", "fold_high"), corrected_interval(differences), strict=True))


def _in_fold(cohort: Cohort, chosen: np.ndarray, risk: np.ndarray, metric: str) -> float:
    days, observed = cohort.days[chosen], cohort.observed[chosen]
    return float(ORDERED[metric](np.ones((1, len(chosen))), Expected(days, observed, risk[None], risk[None]))[0])


def _against_chance(cohort: Cohort, chance: pd.DataFrame, metric: str, gain: float) -> dict[str, float]:
    by_chance = chance.loc[(chance["cohort"] == cohort.name) & (chance["metric"] == metric), "gain"].to_numpy()
    return {
        "chance": float(np.percentile(by_chance, 95)),
        "p": float((1 + (by_chance >= gain).sum()) / (1 + len(by_chance))),
    }


def gains_by_chance(cohort: Cohort, estimates: pd.DataFrame, permuted: pd.DataFrame) -> pd.DataFrame:
    """HEADLINE's gain over BASELINE in each permutation of the shapes.

    Rows `cohort`, `permutation`, `metric`, `gain`.
    """
    baseline = _by_repeat(cohort, estimates, BASELINE, "risk")
    rows = []
    for permutation, mine in permuted.groupby("permutation"):
        own, other = mine["risk"].to_numpy()[None], baseline[[mine["repeat"].iloc[0]]]
        for metric, function in ORDERED.items():
            with_shape, alone = (
                function(np.ones((1, len(cohort.days))), Expected(cohort.days, cohort.observed, risk, risk))[0]
                for risk in (own, other)
            )
            rows.append((cohort.name, permutation, metric, with_shape - alone))
    return pd.DataFrame(rows, columns=["cohort", "permutation", "metric", "gain"])


def calibrate_curves(
    cohort: Cohort, estimates: pd.DataFrame, pair: tuple[str, str]
) -> tuple[pd.DataFrame, np.ndarray, float]:
    """Groups of patients by their mean probability to be alive at HORIZON.

    Deaths in each tenth of probability, and the p-value of D-calibration.
    """
    at_horizon, at_own = (
        _by_repeat(cohort, estimates, pair, column).mean(0) for column in ("alive_at_horizon", "alive_at_own")
    )
    groups = calibrate(at_horizon, cohort.days, cohort.observed, HORIZON, GROUPS)
    return groups, *d_calibration(at_own, cohort.observed)


def summarise_importance(losses: pd.DataFrame) -> pd.DataFrame:
    """Mean loss of concordance of each feature and its interval over the folds, the largest first.

    Rows `cohort`, `feature`, `loss`, `low`, `high`.
    """
    rows = []
    for key, mine in losses.groupby(["cohort", "feature"], sort=False):
        rows.append((*key, *corrected_interval(mine.pivot(index="repeat", columns="fold", values="loss").to_numpy())))
    table = pd.DataFrame(rows, columns=["cohort", "feature", "loss", "low", "high"])
    return table.sort_values(["cohort", "loss"], ascending=[True, False], ignore_index=True)


def mean_risk(cohort: Cohort, estimates: pd.DataFrame, pair: tuple[str, str]) -> Float[np.ndarray, " n"]:
    """Each patient's risk from models that were not fitted to him, as its mean rank over the repeats (from 0 to 1)."""
    return np.mean([pd.Series(risk).rank(pct=True) for risk in _by_repeat(cohort, estimates, pair, "risk")], axis=0)


def mean_days(cohort: Cohort, estimates: pd.DataFrame, pair: tuple[str, str]) -> Float[np.ndarray, " n"]:
    """The days expected of each patient by models that were not fitted to him, geometric mean over the repeats."""
    return np.exp(np.log(_by_repeat(cohort, estimates, pair, "days")).mean(0))


def by_risk(risk: Sequence[float] | np.ndarray, groups: int = 3) -> list[np.ndarray]:
    """Places of the patients in groups of equal size, the lowest risk first."""
    return np.array_split(np.argsort(np.asarray(risk), kind="stable"), groups)
