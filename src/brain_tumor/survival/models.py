"""Models of survival. Each one imputes, drops what is constant and standardises by itself, so that all of it is fitted where the model is."""

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
"""Of Cox and of accelerated failure time, as lifelines counts it. Set before any result was seen, not tuned."""


def standardiser() -> Pipeline:
    """Missing values become the training patients' median; what is constant in them goes.

    The rest has mean 0 and deviation 1.
    """
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), VarianceThreshold(), StandardScaler()
    )


class SurvivalModel(ABC):
    """What every model can do."""

    curves = False
    """Whether it gives survival curves."""

    @abstractmethod
    def fit(
        self, table: pd.DataFrame, days: Float[np.ndarray, " n"], observed: Bool[np.ndarray, " n"]
    ) -> "SurvivalModel":
        """Learn from patients, a row each; `observed` is False for those only known to be alive on that day."""

    @abstractmethod
    def days(self, table: pd.DataFrame) -> Float[np.ndarray, " n"]:
        """Days that each patient is expected to live."""

    def risk(self, table: pd.DataFrame) -> Float[np.ndarray, " n"]:
        """Higher for those who are expected to die sooner; on one scale for all fits of a model."""
        return -np.log(self.days(table))

    def survival(self, table: pd.DataFrame, times: Float[np.ndarray, " t"]) -> Float[np.ndarray, "n t"]:
        """Probability to be alive at each time."""
        raise NotImplementedError(f"{type(self).__name__} gives no survival curves")


class Median(SurvivalModel):
    """Everybody lives as long as the median of the patients it was fitted to.

    What a model must beat to be of any use.
    """

    def fit(self, table: pd.DataFrame, days: np.ndarray, observed: np.ndarray) -> "SurvivalModel":  # noqa: D102
        self.median = float(np.median(days[observed]))
        return self

    def days(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        return np.full(len(table), self.median)

    def risk(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        return np.zeros(len(table))


class Regression(SurvivalModel):
    """Regression of log days with scikit-learn. Those only known to be alive can't be used: they have no days."""

    def __init__(self, regressor: Any) -> None:
        self.standardiser, self.regressor = standardiser(), regressor

    def fit(self, table: pd.DataFrame, days: np.ndarray, observed: np.ndarray) -> "SurvivalModel":  # noqa: D102
        self.regressor.fit(self.standardiser.fit_transform(table[observed]), np.log(days[observed]))
        return self

    def days(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        return np.exp(self.regressor.predict(self.standardiser.transform(table)))


class Curves(SurvivalModel):
    """A model of lifelines: the whole survival curve, from all patients.

    Its expected days are the median of the curve.
    """

    curves = True

    def __init__(self, fitter: Any) -> None:
        self.standardiser, self.fitter = standardiser(), fitter

    def fit(self, table: pd.DataFrame, days: np.ndarray, observed: np.ndarray) -> "SurvivalModel":  # noqa: D102
        data = pd.DataFrame(self.standardiser.fit_transform(table)).add_prefix("x").assign(days=days, observed=observed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # lifelines 0.30 to pandas 3
            self.fitter.fit(data, "days", "observed")
        self.longest = float(days.max())
        return self

    def days(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        median = np.asarray(self.fitter.predict_median(self._transform(table)), float).ravel()
        return np.minimum(median, self.longest)  # a curve that never falls to a half: longer than anyone was seen

    def survival(self, table: pd.DataFrame, times: np.ndarray) -> np.ndarray:  # noqa: D102
        return self.fitter.predict_survival_function(self._transform(table), times=times).to_numpy().T

    def _transform(self, table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(self.standardiser.transform(table)).add_prefix("x")


class Hazards(Curves):
    """Cox: the risk is the hazard against that of the average patient."""

    def risk(self, table: pd.DataFrame) -> np.ndarray:  # noqa: D102
        return np.asarray(self.fitter.predict_log_partial_hazard(self._transform(table)), float)


MODELS: dict[str, Callable[[], SurvivalModel]] = {
    "median": Median,
    "linear": lambda: Regression(RidgeCV(np.logspace(-1, 4, 11))),
    "forest": lambda: Regression(RandomForestRegressor(100, min_samples_leaf=5, max_features=1 / 3, random_state=0)),
    "Cox": lambda: Hazards(CoxPHFitter(penalizer=PENALTY)),
    "log-normal AFT": lambda: Curves(LogNormalAFTFitter(penalizer=PENALTY)),
}
"""The floor; ridge regression whose strength is chosen inside the training patients; a random forest.

Proportional hazards; accelerated failure time.
"""
