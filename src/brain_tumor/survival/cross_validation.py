"""Repeated stratified cross-validation of survival models: everything is fitted inside the folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.survival.cohort import FEATURE_SETS, SHAPE
from brain_tumor.metrics.survival import concordances
from brain_tumor.survival.models import MODELS, SurvivalModel
from brain_tumor.survival.settings import BASELINE, HEADLINE, HORIZON, ProtocolSettings

EXPLAINED = ("Cox", "all")
"""Model and features whose permutation importances are measured."""

COMPARED = (
    ("median", "intercept-only"),
    ("linear", "age"),
    BASELINE,
    ("linear", "shape"),
    ("Cox", "shape"),
    ("linear", "age + shape"),
    ("forest", "age + shape"),
    HEADLINE,
    ("log-normal AFT", "age + shape"),
    ("linear", "all"),
    ("forest", "all"),
    EXPLAINED,
)
"""Models and feature sets that are cross-validated, from the null model to all features."""

SHUFFLES = 5
"""Shuffles of a feature among the patients of a fold, for its permutation importance."""


@dataclass(frozen=True)
class Cohort:
    """Patients that are modelled together: features (a row each), days, whether death was observed."""

    name: str
    patients: Sequence[str]
    table: pd.DataFrame
    days: Float[np.ndarray, " n"]
    observed: Bool[np.ndarray, " n"]

    @property
    def compared(self) -> list[tuple[str, str]]:
        """COMPARED, without feature set `all` where resection and grade are constant."""
        # Constant columns would make it the same as `age + shape`.
        distinct = self.table[["gtr", "hgg"]].nunique()
        varies = (distinct > 1).any()
        return [(model, features) for model, features in COMPARED if features != "all" or varies]


def assign_folds(
    days: Float[np.ndarray, " n"],
    settings: ProtocolSettings,
    repeat: int,
) -> Int[np.ndarray, " n"]:
    """Each patient's fold, stratified by survival: of every `folds` neighbours in days, each is in another fold."""
    rng = np.random.default_rng([settings.seed, repeat])
    rounds = -(-len(days) // settings.folds)
    # Patients are dealt like cards: in each round every fold gets one.
    hands = [rng.permutation(settings.folds) for _ in range(rounds)]
    deal = np.concatenate(hands)
    # Ties in days are broken at random, else they would keep the order of names.
    tie_breaker = rng.random(len(days))
    # The last key is the first by which `lexsort` sorts.
    order = np.lexsort((tie_breaker, days))
    folds = np.empty(len(days), int)
    folds[order] = deal[: len(days)]
    return folds


def cross_validate(
    cohort: Cohort,
    settings: ProtocolSettings,
    workers: WorkerSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Held-out predictions of every model, and permutation importances of the features.

    Returns:
        Rows `cohort`, `model`, `features`, `repeat`, `fold`, `patient`, `days`, `risk`, and of models with curves
        `alive_at_horizon` and `alive_at_own`: survival probability at HORIZON and on the patient's own last day.
        Rows `cohort`, `repeat`, `fold`, `feature`, `loss`: of concordance when the feature is shuffled.
    """
    places = product(range(settings.repeats), range(settings.folds))
    tasks = [(cohort, settings, repeat, fold) for repeat, fold in places]
    results = parallel_map(_validate_fold, tasks, workers, f"cross-validating {cohort.name}", unit="fold")
    estimates, losses = zip(*results, strict=True)
    all_estimates = pd.concat(estimates, ignore_index=True)
    all_losses = pd.concat(losses, ignore_index=True)
    return all_estimates, all_losses


def _validate_fold(
    cohort: Cohort,
    settings: ProtocolSettings,
    repeat: int,
    fold: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    test = assign_folds(cohort.days, settings, repeat) == fold
    parts = [_estimate(cohort, test, pair) for pair in cohort.compared]
    estimates = pd.concat(parts)
    place = {"cohort": cohort.name, "repeat": repeat, "fold": fold}
    # Where `all` isn't compared, HEADLINE has the same features.
    explained = EXPLAINED if EXPLAINED in cohort.compared else HEADLINE
    # A generator of the fold's own: results don't depend on the order in which workers take the folds.
    rng = np.random.default_rng([settings.seed, repeat, fold])
    losses = _measure_importance(cohort, test, explained, rng)
    return estimates.assign(**place), losses.assign(**place)


def _estimate(cohort: Cohort, test: np.ndarray, pair: tuple[str, str]) -> pd.DataFrame:
    name, features = pair
    model = _fit(cohort, cohort.table, test, pair)
    held_out = cohort.table.loc[test, FEATURE_SETS[features]]
    result = {
        "model": name,
        "features": features,
        "patient": np.asarray(cohort.patients)[test],
        "days": model.days(held_out),
        "risk": model.risk(held_out),
        "alive_at_horizon": np.nan,
        "alive_at_own": np.nan,
    }
    if model.curves:
        own = cohort.days[test]
        # All times in one call: lifelines evaluates every patient's curve at every time.
        times = np.unique([*own, HORIZON])
        curves = model.survival(held_out, times)
        # `times` is sorted and holds each of them.
        at_horizon = np.searchsorted(times, HORIZON)
        at_own = np.searchsorted(times, own)
        result["alive_at_horizon"] = curves[:, at_horizon]
        every_patient = np.arange(len(own))
        result["alive_at_own"] = curves[every_patient, at_own]
    return pd.DataFrame(result)


def _fit(
    cohort: Cohort,
    table: pd.DataFrame,
    test: np.ndarray,
    pair: tuple[str, str],
) -> SurvivalModel:
    """The model fitted to the patients outside the test fold."""
    train = ~test
    return fit(pair, table[train], cohort.days[train], cohort.observed[train])


def fit(
    pair: tuple[str, str],
    table: pd.DataFrame,
    days: Float[np.ndarray, " n"],
    observed: Bool[np.ndarray, " n"],
) -> SurvivalModel:
    """A model and its feature set, fitted to all of these patients.

    Args:
        table: of `brain_tumor.data.survival.cohort.design`.
    """
    name, features = pair
    return MODELS[name]().fit(table[FEATURE_SETS[features]], days, observed)


def _measure_importance(
    cohort: Cohort,
    test: np.ndarray,
    pair: tuple[str, str],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Loss of concordance in the held-out patients when a feature is shuffled among them."""
    _, features = pair
    names = FEATURE_SETS[features]
    model = _fit(cohort, cohort.table, test, pair)
    own = cohort.table.loc[test, names]
    tables = [own]
    for name in names:
        for _ in range(SHUFFLES):
            shuffled_feature = rng.permutation(own[name])
            tables.append(own.assign(**{name: shuffled_feature}))
    # One call for all shuffles: a call of lifelines costs more than its patients.
    risks = model.risk(pd.concat(tables))
    by_table = risks.reshape(len(tables), -1)
    values = concordances(cohort.days[test], cohort.observed[test], by_table)
    intact, shuffled = values[0], values[1:]
    by_feature = shuffled.reshape(len(names), SHUFFLES)
    return pd.DataFrame({"feature": names, "loss": intact - by_feature.mean(1)})


def cross_validate_permuted(cohort: Cohort, settings: ProtocolSettings, workers: WorkerSettings) -> pd.DataFrame:
    """HEADLINE's held-out predictions with the shape features permuted among the patients.

    A permutation is cross-validated once, in the folds of one repeat.

    Returns: rows `permutation`, `repeat`, `patient`, `risk`.
    """
    tasks = [(cohort, settings, permutation) for permutation in range(settings.permutations)]
    permuted = parallel_map(_permute, tasks, workers, f"permuting shapes of {cohort.name}", unit="permutation")
    return pd.concat(permuted, ignore_index=True)


def _permute(cohort: Cohort, settings: ProtocolSettings, permutation: int) -> pd.DataFrame:
    # The 1 keeps these draws apart from those of `assign_folds`.
    rng = np.random.default_rng([settings.seed, 1, permutation])
    order = rng.permutation(len(cohort.days))
    table = cohort.table.copy()
    # Shape features move together, so that only their link to age and survival is broken.
    shapes = cohort.table[SHAPE].to_numpy()
    table[SHAPE] = shapes[order]
    # Permutations take the repeats in turn, so that the null isn't that of a single division into folds.
    repeat = permutation % settings.repeats
    folds = assign_folds(cohort.days, settings, repeat)
    _, features = HEADLINE
    risk = np.empty(len(folds))
    for fold in np.unique(folds):
        test = folds == fold
        model = _fit(cohort, table, test, HEADLINE)
        held_out = table.loc[test, FEATURE_SETS[features]]
        risk[test] = model.risk(held_out)
    return pd.DataFrame({"permutation": permutation, "repeat": repeat, "patient": cohort.patients, "risk": risk})
