"""Scores of predicted survival, with intervals over patients, and calibration of survival curves.

Scores take bootstrap multiplicities of the patients as weights: weights of one give the score itself, those of
bootstrap samples its distribution. Several repeats of a cross-validation are averaged.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

CLASS_LIMITS = (300, 450)
"""Days between the three survival classes of BraTS: short below the first, long above the second."""

Weights = Float[np.ndarray, "b n"]
"""Multiplicity of each of n patients in each of b bootstrap samples."""

Values = Float[np.ndarray, " b"]


@dataclass(frozen=True)
class SurvivalPredictions:
    """Survival of n patients, and a model's predictions of it in each of r repeats.

    Attributes:
        days: until death, or until censoring.
        observed: whether death was observed; False for right-censored patients.
        predicted: days until death.
        risk: higher for an earlier death.
    """

    days: Float[np.ndarray, " n"]
    observed: Bool[np.ndarray, " n"]
    predicted: Float[np.ndarray, "r n"]
    risk: Float[np.ndarray, "r n"]


def classes(days: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Survival class: 0 short (below 300 days), 1 medium (300 to 450), 2 long (above 450)."""
    # 450 days are medium, and `digitize` counts a limit to the class above it.
    short, long = CLASS_LIMITS
    return np.digitize(days, [short, np.nextafter(long, np.inf)])


def accuracy(weights: Weights, predictions: SurvivalPredictions) -> Values:
    """Fraction of the patients with observed death whose survival class is right."""
    right = classes(predictions.predicted) == classes(predictions.days)
    return _mean(weights * predictions.observed, right.mean(0))


def mean_squared_error(weights: Weights, predictions: SurvivalPredictions) -> Values:
    """Mean squared error over the patients with observed death, in square days."""
    errors = (predictions.predicted - predictions.days) ** 2
    return _mean(weights * predictions.observed, errors.mean(0))


def median_squared_error(weights: Weights, predictions: SurvivalPredictions) -> Values:
    """Median squared error over the patients with observed death, in square days."""
    errors = (predictions.predicted - predictions.days) ** 2
    # Repeat by repeat: a median doesn't commute with the mean over repeats.
    weights = weights * predictions.observed
    medians = [_median(weights, repeat) for repeat in errors]
    return np.mean(medians, axis=0)


def spearman(weights: Weights, predictions: SurvivalPredictions) -> Values:
    """Spearman correlation of predicted and true days over the patients with observed death.

    NaN for a model with the same prediction for everybody.
    """
    weights = weights * predictions.observed
    true_ranks = _ranks(weights, predictions.days)
    correlations = []
    for risk in predictions.risk:
        # The lowest risk stands for the longest survival.
        ranks = _ranks(weights, -risk)
        correlations.append(_correlation(weights, true_ranks, ranks))
    return np.mean(correlations, axis=0)


def concordance(weights: Weights, predictions: SurvivalPredictions) -> Values:
    """Harrell's C: the fraction of comparable pairs that the risks order correctly, ties counting half."""
    comparable = comparable_pairs(predictions.days, predictions.observed).astype(float)
    correct = np.zeros_like(comparable)
    for risk in predictions.risk:
        correct += comparable * _ordered(risk[:, None], risk)
    correct /= len(predictions.risk)
    return _quadratic(weights, correct) / _quadratic(weights, comparable)


def _ordered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1 where the first risk is higher, one half where they are equal, else 0."""
    return (first > second) + 0.5 * (first == second)


def comparable_pairs(
    days: Float[np.ndarray, " n"],
    observed: Bool[np.ndarray, " n"],
) -> Bool[np.ndarray, "n n"]:
    """[i, j]: whether patient i is known to have died before patient j."""
    # Of a death and a censoring on one day, the censored patient lived longer.
    own_days = days[:, None]
    same_day = (own_days == days) & ~observed
    earlier = (own_days < days) | same_day
    return observed[:, None] & earlier


def concordances(
    days: Float[np.ndarray, " n"],
    observed: Bool[np.ndarray, " n"],
    risks: Float[np.ndarray, "m n"],
) -> Float[np.ndarray, " m"]:
    """Harrell's C of each of m sets of risks; NaN without a comparable pair."""
    first, second = np.nonzero(comparable_pairs(days, observed))
    if not len(first):
        return np.full(len(risks), np.nan)
    correct = _ordered(risks[:, first], risks[:, second])
    return correct.mean(1)


SCORES: dict[str, Callable[[Weights, SurvivalPredictions], Values]] = {
    "accuracy": accuracy,
    "mean_squared_error": mean_squared_error,
    "median_squared_error": median_squared_error,
    "spearman": spearman,
    "concordance": concordance,
}


def score(predictions: SurvivalPredictions, samples: int, seed: int = 0) -> pd.DataFrame:
    """Every score of SCORES as a column: its value in the first row, then that of each bootstrap sample.

    Samples are a function of the number of patients and the seed, so that two models can be compared in pairs.
    """
    count = len(predictions.days)
    # Multinomial counts are how often each patient is drawn with replacement.
    equal = np.full(count, 1 / count)
    drawn = np.random.default_rng(seed).multinomial(count, equal, samples)
    # Weights of one, in the first row, give the score itself.
    weights = np.vstack([np.ones(count), drawn]).astype(float)
    columns = {name: function(weights, predictions) for name, function in SCORES.items()}
    return pd.DataFrame(columns)


def corrected_interval(differences: Float[np.ndarray, "r k"]) -> tuple[float, float, float]:
    """Mean difference over the folds of repeated cross-validations, and its 95 % interval.

    By the corrected resampled t-test: folds of several repeats share patients, so that the plain standard error would
    be far too small.

    Args:
        differences: of each repeat and fold; NaN where a fold has no comparable pair.

    Source: Nadeau & Bengio 2003, Machine Learning 52:239-281.
    """
    from scipy.stats import t

    values = differences[np.isfinite(differences)]
    if len(values) < 2:
        return np.nan, np.nan, np.nan
    mean = values.mean()
    # The second term is the ratio of test to training patients, 1 to folds - 1.
    folds = differences.shape[1]
    correction = np.sqrt(1 / len(values) + 1 / (folds - 1))
    error = values.std(ddof=1) * correction
    half = t.ppf(0.975, len(values) - 1) * error
    return float(mean), float(mean - half), float(mean + half)


def kaplan_meier(days: Float[np.ndarray, " n"], observed: Bool[np.ndarray, " n"]) -> pd.DataFrame:
    """Kaplan-Meier curve: rows `day`, `alive`, `low`, `high` (pointwise 95 % interval, log-log Greenwood)."""
    from scipy.stats import CensoredData, ecdf

    followed = CensoredData(uncensored=days[observed], right=days[~observed])
    found = ecdf(followed).sf
    with warnings.catch_warnings():
        # Where all or none are alive, logarithms aren't finite.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = found.confidence_interval(0.95, method="log-log")
    curve = pd.DataFrame({"day": found.quantiles, "alive": found.probabilities})
    # As long as all are alive, and once nobody is, the interval is a point.
    certain = curve["alive"].isin([0, 1])
    for name, bound in {"low": interval.low, "high": interval.high}.items():
        curve[name] = np.where(certain, curve["alive"], bound.probabilities)
    if curve["day"].iloc[0] == 0:
        return curve
    # scipy's curve begins on the first day of a death or a censoring; until then all are alive.
    all_alive = {"day": 0.0, "alive": 1.0, "low": 1.0, "high": 1.0}
    start = pd.DataFrame([all_alive])
    return pd.concat([start, curve], ignore_index=True)


def alive_at(curve: pd.DataFrame, day: float) -> tuple[float, float, float]:
    """Survival probability on a day and its 95 % interval, from a curve of `kaplan_meier`.

    NaN after the last day of follow-up unless nobody is left alive. The interval is NaN for 0 and 1.
    """
    reached = curve[curve["day"] <= day]
    alive, low, high = reached[["alive", "low", "high"]].iloc[-1]
    nan = float("nan")
    last_day = curve["day"].iloc[-1]
    if day > last_day and alive > 0:
        return nan, nan, nan
    if low < high:
        return float(alive), float(low), float(high)
    # Greenwood's variance of 0 would claim certainty.
    return float(alive), nan, nan


def calibrate(
    alive: Float[np.ndarray, " n"],
    days: Float[np.ndarray, " n"],
    observed: Bool[np.ndarray, " n"],
    horizon: float,
    groups: int,
) -> pd.DataFrame:
    """Calibration at the horizon: predicted against observed survival, in groups of equal size by prediction.

    Args:
        alive: predicted probability of being alive at the horizon.

    Returns: a row for each group: `patients`, `expected` (mean probability), `alive`, `low`, `high` (Kaplan-Meier).
    """
    rows = []
    order = np.argsort(alive, kind="stable")
    for part in np.array_split(order, groups):
        # Kaplan-Meier, because patients censored before the horizon can't be counted as alive or dead.
        curve = kaplan_meier(days[part], observed[part])
        expected = alive[part].mean()
        rows.append((len(part), expected, *alive_at(curve, horizon)))
    return pd.DataFrame(rows, columns=["patients", "expected", "alive", "low", "high"])


def d_calibration(
    alive_at_own: Float[np.ndarray, " n"],
    observed: Bool[np.ndarray, " n"],
    bins: int = 10,
) -> tuple[np.ndarray, float]:
    """D-calibration: deaths by predicted survival probability at the time of death, and the p-value of uniformity.

    A high p-value means that no miscalibration is detected, not that there is none.

    Args:
        alive_at_own: predicted survival probability on the patient's own last day.

    Source: Haider et al. 2020, JMLR 21(85).
    """
    from scipy.stats import chisquare

    edges = np.linspace(0, 1, bins + 1)
    # Rounding can leave a probability outside 0 to 1, where no bin is.
    of_deaths = np.clip(alive_at_own[observed], 0, 1)
    deaths = np.histogram(of_deaths, edges)[0].astype(float)
    # A censored patient dies anywhere below the probability reached, and counts in parts.
    for reached in np.clip(alive_at_own[~observed], 1e-9, 1):
        covered = np.clip((reached - edges[:-1]) * bins, 0, 1)
        deaths += covered / (reached * bins)
    return deaths, float(chisquare(deaths).pvalue)


def _mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1)


def _median(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weighted median; the mean of the two middle values where the total weight is even."""
    order = np.argsort(values)
    ordered = values[order]
    reached = np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2
    lower = ordered[(reached >= half).argmax(1)]
    upper = ordered[(reached > half).argmax(1)]
    return (lower + upper) / 2


def _ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank of each value in each weighted sample; ties share their mean rank."""
    distinct, place = np.unique(values, return_inverse=True)
    member = place[:, None] == np.arange(len(distinct))
    sizes = weights @ member.astype(float)
    # The middle of a group of ties: all smaller values and half of the group.
    mean_ranks = np.cumsum(sizes, axis=1) - sizes / 2
    return mean_ranks[:, place]


def _correlation(weights: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation; NaN for a constant."""
    total = weights.sum(1, keepdims=True)
    a_mean = (weights * a).sum(1, keepdims=True) / total
    b_mean = (weights * b).sum(1, keepdims=True) / total
    a = a - a_mean
    b = b - b_mean
    a_squares = (weights * a**2).sum(1)
    b_squares = (weights * b**2).sum(1)
    products = (weights * a * b).sum(1)
    spread = np.sqrt(a_squares * b_squares)
    undefined = np.full(len(spread), np.nan)
    # 1e-9, because a constant minus its mean is 0 but for rounding.
    return np.divide(products, spread, out=undefined, where=spread > 1e-9)


def _quadratic(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    # A pair of patients counts as often as the product of their multiplicities.
    return np.einsum("bi,bi->b", weights @ matrix, weights)
