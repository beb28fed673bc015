"""Scores of expected survival, with intervals over patients, and calibration of survival curves.

A score is a function of weights: how often each patient is in a sample. With weights of one it is the score itself,
with those of bootstrap samples its distribution. Where there are several repeats of a cross-validation, it is the mean
over the repeats.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

CLASS_LIMITS = (300, 450)
"""Days that part the three classes of BraTS: short below the first, long above the second."""

Weights = Float[np.ndarray, "b n"]
Values = Float[np.ndarray, " b"]


@dataclass(frozen=True)
class Expected:
    """What was seen of n patients, and what a model expected of them in each of r repeats.

    Attributes:
        days: until death, or until the patient was last known to be alive.
        observed: whether death was seen.
        expected: days.
        risk: higher for those expected to die sooner.
    """

    days: Float[np.ndarray, " n"]
    observed: Bool[np.ndarray, " n"]
    expected: Float[np.ndarray, "r n"]
    risk: Float[np.ndarray, "r n"]


def classes(days: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """0 short, 1 medium, 2 long: below 300, 300 to 450, above 450 days."""
    return np.digitize(days, [CLASS_LIMITS[0], np.nextafter(CLASS_LIMITS[1], np.inf)])


def accuracy(weights: Weights, of: Expected) -> Values:
    """Part of the patients whose class (below 300, 300 to 450, above 450 days) is found; those whose death was seen."""
    return _mean(weights * of.observed, (classes(of.expected) == classes(of.days)).mean(0))


def mean_squared_error(weights: Weights, of: Expected) -> Values:
    """In square days; patients whose death was seen."""
    return _mean(weights * of.observed, ((of.expected - of.days) ** 2).mean(0))


def median_squared_error(weights: Weights, of: Expected) -> Values:
    """In square days; patients whose death was seen."""
    errors = (of.expected - of.days) ** 2
    return np.mean([_median(weights * of.observed, repeat) for repeat in errors], axis=0)


def spearman(weights: Weights, of: Expected) -> Values:
    """SpearmanR of expected and true days; patients whose death was seen.

    NaN for a model that tells no two patients apart.
    """
    weights = weights * of.observed
    truth = _ranks(weights, of.days)
    return np.mean([_correlation(weights, truth, _ranks(weights, -risk)) for risk in of.risk], axis=0)


def concordance(weights: Weights, of: Expected) -> Values:
    """Harrell's C: of the pairs of which it is known who lived longer, the part that the risks order so.

    Equal risks count half.
    """
    comparable = comparable_pairs(of.days, of.observed).astype(float)
    right = sum(comparable * ((risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)) for risk in of.risk) / len(
        of.risk
    )
    return _quadratic(weights, right) / _quadratic(weights, comparable)


def comparable_pairs(days: Float[np.ndarray, " n"], observed: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, "n n"]:
    """[i, j]: i is known to have died before j; on one day, the one known to be alive lived longer."""
    earlier = (days[:, None] < days) | ((days[:, None] == days) & ~observed)
    return observed[:, None] & earlier


def concordances(
    days: Float[np.ndarray, " n"], observed: Bool[np.ndarray, " n"], risks: Float[np.ndarray, "m n"]
) -> Float[np.ndarray, " m"]:
    """Harrell's C of each of m sets of risks; NaN where of no pair it is known who lived longer."""
    first, second = np.nonzero(comparable_pairs(days, observed))
    if not len(first):
        return np.full(len(risks), np.nan)
    return ((risks[:, first] > risks[:, second]) + 0.5 * (risks[:, first] == risks[:, second])).mean(1)


SCORES: dict[str, Callable[[Weights, Expected], Values]] = {
    "accuracy": accuracy,
    "mean_squared_error": mean_squared_error,
    "median_squared_error": median_squared_error,
    "spearman": spearman,
    "concordance": concordance,
}


def score(of: Expected, samples: int, seed: int = 0) -> pd.DataFrame:
    """Every score of SCORES: column `value` in the first row, then its value in each bootstrap sample of the patients.

    The samples are a function of the number of patients and the seed: those of two models can be subtracted, pair by
    pair.
    """
    count = len(of.days)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), samples)
    weights = np.vstack([np.ones(count), drawn]).astype(float)
    return pd.DataFrame({name: function(weights, of) for name, function in SCORES.items()})


def corrected_interval(differences: Float[np.ndarray, "r k"]) -> tuple[float, float, float]:
    """Mean over the folds of repeated cross-validations, and its 95 % interval by the corrected resampled t-test.

    The folds of several repeats share patients, to train on and to test on: their plain standard error would be far too
    small.

    Source: Nadeau & Bengio 2003, Machine Learning 52:239-281.
    """
    from scipy.stats import t

    values = differences[np.isfinite(differences)]  # in a fold in which too few died nothing is ordered
    if len(values) < 2:
        return np.nan, np.nan, np.nan
    mean, error = values.mean(), values.std(ddof=1) * np.sqrt(1 / len(values) + 1 / (differences.shape[1] - 1))
    half = t.ppf(0.975, len(values) - 1) * error
    return float(mean), float(mean - half), float(mean + half)


def kaplan_meier(days: Float[np.ndarray, " n"], observed: Bool[np.ndarray, " n"]) -> pd.DataFrame:
    """The survival curve of patients.

    Its steps as rows `day`, `alive`, and its pointwise 95 % interval `low`, `high` (log-log Greenwood).
    """
    from scipy.stats import CensoredData, ecdf

    found = ecdf(CensoredData(uncensored=days[observed], right=days[~observed])).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the logarithms where all or none are alive
        interval = found.confidence_interval(0.95, method="log-log")
    curve = pd.DataFrame({"day": found.quantiles, "alive": found.probabilities})
    certain = curve["alive"].isin([0, 1])  # as long as all are alive, and once nobody is, the interval is a point
    for name, bound in {"low": interval.low, "high": interval.high}.items():
        curve[name] = np.where(certain, curve["alive"], bound.probabilities)
    start = pd.DataFrame({"day": [0.0], "alive": [1.0], "low": [1.0], "high": [1.0]})
    return curve if curve["day"].iloc[0] == 0 else pd.concat([start, curve], ignore_index=True)


def alive_at(curve: pd.DataFrame, day: float) -> tuple[float, float, float]:
    """Part alive on a day, and its interval, from a curve of `kaplan_meier`.

    NaN after the last day on which anybody was seen, unless nobody was left alive. Where all or none are alive there is
    no interval.
    """
    alive, low, high = curve.loc[curve["day"] <= day, ["alive", "low", "high"]].iloc[-1]
    if day > curve["day"].iloc[-1] and alive > 0:
        return (float("nan"),) * 3
    return (float(alive), float(low), float(high)) if low < high else (float(alive), float("nan"), float("nan"))


def calibrate(
    alive: Float[np.ndarray, " n"],
    days: Float[np.ndarray, " n"],
    observed: Bool[np.ndarray, " n"],
    horizon: float,
    groups: int,
) -> pd.DataFrame:
    """Patients in groups of equal size by the probability they were given to be alive at the horizon, against those who were.

    Returns: a row for each group: `patients`, `expected` (mean probability), `alive`, `low`, `high` (Kaplan-Meier).
    """
    parts = np.array_split(np.argsort(alive, kind="stable"), groups)
    rows = [
        (len(part), alive[part].mean(), *alive_at(kaplan_meier(days[part], observed[part]), horizon)) for part in parts
    ]
    return pd.DataFrame(rows, columns=["patients", "expected", "alive", "low", "high"])


def d_calibration(
    alive_at_own: Float[np.ndarray, " n"], observed: Bool[np.ndarray, " n"], bins: int = 10
) -> tuple[np.ndarray, float]:
    """How many deaths fall where the curves give each tenth of probability, and the p-value that they should be equally many.

    A patient known only to be alive could die anywhere below the probability reached: he counts in parts. A high
    p-value means that no flaw of the curves is seen, not that there is none.

    Source: Haider et al. 2020, JMLR 21(85).
    """
    from scipy.stats import chisquare

    edges = np.linspace(0, 1, bins + 1)
    deaths = np.histogram(np.clip(alive_at_own[observed], 0, 1), edges)[0].astype(float)
    for reached in np.clip(alive_at_own[~observed], 1e-9, 1):
        deaths += np.clip((reached - edges[:-1]) * bins, 0, 1) / (reached * bins)
    return deaths, float(chisquare(deaths).pvalue)


def _mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1)


def _median(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """That of the values, each as often as its weight says."""
    order = np.argsort(values)
    ordered, reached = values[order], np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2
    return (ordered[(reached >= half).argmax(1)] + ordered[(reached > half).argmax(1)]) / 2


def _ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank of each value where each is there as often as its weight says; equal ones share the middle rank."""
    distinct, place = np.unique(values, return_inverse=True)
    sizes = weights @ (place[:, None] == np.arange(len(distinct))).astype(float)
    return (np.cumsum(sizes, axis=1) - sizes / 2)[:, place]


def _correlation(weights: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total = weights.sum(1, keepdims=True)
    a, b = (x - (weights * x).sum(1, keepdims=True) / total for x in (a, b))
    spread = np.sqrt((weights * a**2).sum(1) * (weights * b**2).sum(1))
    return np.divide((weights * a * b).sum(1), spread, out=np.full(len(spread), np.nan), where=spread > 1e-9)


def _quadratic(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.einsum("bi,bi->b", weights @ matrix, weights)
