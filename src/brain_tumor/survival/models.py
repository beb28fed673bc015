"""Survival models. Each imputes, drops constant features and standardises itself, so that folds stay separate."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from lifelines import CoxPHFitter, LogNormalAFTFitter
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

PENALTY = 0.1
"""Ridge penalty of Cox and AFT (lifelines' `penalizer`). Set before any result was seen, not tuned."""


def standardiser() -> Pipeline:
    """Median imputation, removal of constant features, scaling to mean 0 and standard deviation 1."""
    # A feature that is missing in all training patients becomes constant, and the next step removes it.
    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_pipeline(imputer, VarianceThreshold(), StandardScaler())


class SurvivalModel(ABC):
    """Interface of the survival models."""

    curves = False
    """Whether the model predicts survival curves."""

    @abstractmethod
    def fit(
        self,
        table: pd.DataFrame,
        days: Float[np.ndarray, " n"],
        observed: Bool[np.ndarray, " n"],
    ) -> "SurvivalModel":
        """Fit to patients, a row each; `observed` is False for right-censored ones."""

    @abstractmethod
    def days(self, table: pd.DataFrame) -> Float[np.ndarray, " n"]:
        """Predicted days until death."""

    def risk(self, table: pd.DataFrame) -> Float[np.ndarray, " n"]:
        """Risk score, higher for an earlier death; on one scale for all fits of a model."""
        # Minus log days: the same ranks as the days, near the scale of a log hazard.
        return -np.log(self.days(table))

    def survival(
        self,
        table: pd.DataFrame,
        times: Float[np.ndarray, " t"],
    ) -> Float[np.ndarray, "n t"]:
        """Survival probability of each patient at each time."""
        raise NotImplementedError(f"{type(self).__name__} gives no survival curves")


class Median(SurvivalModel):
    """Null model: the median of the training patients for everybody."""

    def fit(self, table: pd.DataFrame, days: np.ndarray, observed: np.ndarray) -> "SurvivalModel":  # noqa: D102
        self.median = float(np.median(days[observed]))
        return self

    def days(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        return np.full(len(table), self.median)

    def risk(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        return np.zeros(len(table))


class Regression(SurvivalModel):
    """scikit-learn regression of log days. Censored patients are excluded, because their days aren't known."""

    def __init__(self, regressor: Any) -> None:
        self.standardiser, self.regressor = standardiser(), regressor

    def fit(self, table: pd.DataFrame, days: np.ndarray, observed: np.ndarray) -> "SurvivalModel":  # noqa: D102
        # Log days: survival is skewed, and errors are relative.
        features = self.standardiser.fit_transform(table[observed])
        self.regressor.fit(features, np.log(days[observed]))
        return self

    def days(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        features = self.standardiser.transform(table)
        return np.exp(self.regressor.predict(features))


class Curves(SurvivalModel):
    """A lifelines model of the survival curve, fitted to all patients; predicted days are the curve's median."""

    curves = True

    def __init__(self, fitter: Any) -> None:
        self.standardiser, self.fitter = standardiser(), fitter

    def fit(self, table: pd.DataFrame, days: np.ndarray, observed: np.ndarray) -> "SurvivalModel":  # noqa: D102
        features = self.standardiser.fit_transform(table)
        data = _name_features(features).assign(days=days, observed=observed)
        with warnings.catch_warnings():
            # lifelines 0.30 uses what pandas 3 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.fitter.fit(data, "days", "observed")
        self.longest = float(days.max())
        return self

    def days(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        predicted = self.fitter.predict_median(self._transform(table))
        # Of a single patient Cox gives a number and not a series.
        median = np.asarray(predicted, float).ravel()
        # A curve that never falls to a half has no median; the longest follow-up stands for it.
        return np.minimum(median, self.longest)

    def survival(self, table: pd.DataFrame, times: np.ndarray) -> np.ndarray:  # noqa: D102
        curves = self.fitter.predict_survival_function(self._transform(table), times=times)
        # lifelines has a row for each time, and a column for each patient.
        return curves.to_numpy().T

    def _transform(self, table: pd.DataFrame) -> pd.DataFrame:
        return _name_features(self.standardiser.transform(table))


def _name_features(features: np.ndarray) -> pd.DataFrame:
    # Constant features are gone, so that the names of the table no longer fit.
    return pd.DataFrame(features).add_prefix("x")


class Hazards(Curves):
    """Cox proportional hazards; the risk is the log partial hazard."""

    def risk(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        log_hazard = self.fitter.predict_log_partial_hazard(self._transform(table))
        return np.asarray(log_hazard, float)


def _forest() -> SurvivalModel:
    # A third of the features at each split is the usual choice for regression forests.
    forest = RandomForestRegressor(100, min_samples_leaf=5, max_features=1 / 3, random_state=0)
    return Regression(forest)


def _linear() -> SurvivalModel:
    # The penalty is chosen inside the training patients, by leave-one-out.
    penalties = np.logspace(-1, 4, 11)
    return Regression(RidgeCV(penalties))


def _cox() -> SurvivalModel:
    return Hazards(CoxPHFitter(penalizer=PENALTY))


def _aft() -> SurvivalModel:
    return Curves(LogNormalAFTFitter(penalizer=PENALTY))


MODELS: dict[str, Callable[[], SurvivalModel]] = {
    "median": Median,
    "linear": _linear,
    "forest": _forest,
    "Cox": _cox,
    "log-normal AFT": _aft,
}
"""Name > constructor: null model, ridge regression, random forest, proportional hazards, accelerated failure time."""
