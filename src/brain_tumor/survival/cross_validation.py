"""Repeated stratified cross-validation of survival models: everything is fitted inside the folds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.survival.cohort import FEATURE_SETS, SHAPE
from brain_tumor.metrics.survival import concordances
from brain_tumor.survival.models import MODELS
from brain_tumor.survival.settings import BASELINE, HEADLINE, HORIZON, ProtocolSettings

EXPLAINED = ("Cox", "all")
"""Model and features whose importances are measured."""

COMPARED = (
    ("median", "nothing"),
    BASELINE,
    ("Cox", "age"),
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

SHUFFLES = 5
"""Times that a feature is shuffled among the patients of a fold to see what it is worth."""


@dataclass(frozen=True)
class Cohort:
    """Patients that are modelled together: what models look at (a row each), days, whether death was seen."""

    name: str
    patients: Sequence[str]
    table: pd.DataFrame
    days: Float[np.ndarray, " n"]
    observed: Bool[np.ndarray, " n"]

    @property
    def compared(self) -> list[tuple[str, str]]:
        """COMPARED, without resection and grade where they are the same for all."""
        return [pair for pair in COMPARED if pair[1] != "all" or (self.table[["gtr", "hgg"]].nunique() > 1).any()]


def assign_folds(days: Float[np.ndarray, " n"], settings: ProtocolSettings, repeat: int) -> Int[np.ndarray, " n"]:
    """Each patient's fold. Of every `folds` patients who lived about as long, each is in another fold."""
    rng = np.random.default_rng([settings.seed, repeat])
    deal = np.concatenate([rng.permutation(settings.folds) for _ in range(-(-len(days) // settings.folds))])[
        : len(days)
    ]
    folds = np.empty(len(days), int)
    folds[np.lexsort((rng.random(len(days)), days))] = deal
    return folds


def cross_validate(
    cohort: Cohort, settings: ProtocolSettings, workers: WorkerSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What every model expects of every patient when fitted to others, and what each feature is worth.

    Returns:
        Rows `cohort`, `model`, `features`, `repeat`, `fold`, `patient`, `days`, `risk`, and where the model gives
        curves the probability to be alive at HORIZON and on the patient's own last day; rows `cohort`, `repeat`,
        `fold`, `feature`, `loss` of concordance when the feature is shuffled.
    """
    tasks = [(cohort, settings, repeat, fold) for repeat in range(settings.repeats) for fold in range(settings.folds)]
    validated = parallel_map(_validate_fold, tasks, workers, f"cross-validating {cohort.name}", unit="fold")
    estimates, losses = zip(*validated, strict=True)
    return pd.concat(estimates, ignore_index=True), pd.concat(losses, ignore_index=True)


def _validate_fold(
    cohort: Cohort, settings: ProtocolSettings, repeat: int, fold: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    test = assign_folds(cohort.days, settings, repeat) == fold
    parts = [_estimate(cohort, test, pair) for pair in cohort.compared]
    place = {"cohort": cohort.name, "repeat": repeat, "fold": fold}
    explained = EXPLAINED if EXPLAINED in cohort.compared else HEADLINE
    losses = _measure_importance(cohort, test, explained, np.random.default_rng([settings.seed, repeat, fold]))
    return pd.concat(parts).assign(**place), losses.assign(**place)


def _estimate(cohort: Cohort, test: np.ndarray, pair: tuple[str, str]) -> pd.DataFrame:
    table = cohort.table[FEATURE_SETS[pair[1]]]
    model = MODELS[pair[0]]().fit(table[~test], cohort.days[~test], cohort.observed[~test])
    alive = np.full((2, test.sum()), np.nan)
    if model.curves:
        own = cohort.days[test]
        times = np.unique([*own, HORIZON])
        curves = model.survival(table[test], times)
        alive = curves[np.arange(len(own)), np.searchsorted(times, [own, np.full(len(own), HORIZON)])]
    patients = np.asarray(cohort.patients)[test]
    result = {
        "model": pair[0],
        "features": pair[1],
        "patient": patients,
        "days": model.days(table[test]),
        "risk": model.risk(table[test]),
    }
    return pd.DataFrame(result | {"alive_at_horizon": alive[1], "alive_at_own": alive[0]})


def _measure_importance(
    cohort: Cohort, test: np.ndarray, pair: tuple[str, str], rng: np.random.Generator
) -> pd.DataFrame:
    """Loss of concordance in the held-out patients for each feature.

    All shuffled copies of them are predicted at once.
    """
    names = FEATURE_SETS[pair[1]]
    table = cohort.table[names]
    model = MODELS[pair[0]]().fit(table[~test], cohort.days[~test], cohort.observed[~test])
    own = table[test]
    copies = [own]
    for name in names:
        copies += [own.assign(**{name: rng.permutation(own[name])}) for _ in range(SHUFFLES)]
    risks = model.risk(pd.concat(copies)).reshape(len(copies), -1)
    values = concordances(cohort.days[test], cohort.observed[test], risks)
    return pd.DataFrame({"feature": names, "loss": values[0] - values[1:].reshape(len(names), SHUFFLES).mean(1)})


def permute_shapes(cohort: Cohort, settings: ProtocolSettings, workers: WorkerSettings) -> pd.DataFrame:
    """HEADLINE's estimates when each patient has the shape of another: rows `permutation`, `repeat`, `patient`, `risk`.

    A permutation is cross-validated once, in the folds of one repeat.
    """
    tasks = [(cohort, settings, permutation) for permutation in range(settings.permutations)]
    permuted = parallel_map(_permute, tasks, workers, f"permuting shapes of {cohort.name}", unit="permutation")
    return pd.concat(permuted, ignore_index=True)


def _permute(cohort: Cohort, settings: ProtocolSettings, permutation: int) -> pd.DataFrame:
    order = np.random.default_rng([settings.seed, 1, permutation]).permutation(len(cohort.days))
    table = cohort.table.copy()
    table[SHAPE] = cohort.table[SHAPE].to_numpy()[order]
    repeat = permutation % settings.repeats
    folds = assign_folds(cohort.days, settings, repeat)
    risk = np.empty(len(folds))
    for test in _each(folds):
        features = table[FEATURE_SETS[HEADLINE[1]]]
        model = MODELS[HEADLINE[0]]().fit(features[~test], cohort.days[~test], cohort.observed[~test])
        risk[test] = model.risk(features[test])
    return pd.DataFrame({"permutation": permutation, "repeat": repeat, "patient": cohort.patients, "risk": risk})


def _each(folds: Int[np.ndarray, " n"]) -> Iterator[Bool[np.ndarray, " n"]]:
    """The patients of each fold in turn."""
    for fold in np.unique(folds):
        yield folds == fold
