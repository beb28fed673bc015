"""One survival model, given the shape features of expert masks and of predicted masks of the same patients."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from brain_tumor.data.survival.cohort import FEATURE_SETS, SHAPE, design
from brain_tumor.metrics.survival import SurvivalPredictions, score
from brain_tumor.survival.cross_validation import fit
from brain_tumor.survival.evaluation import bootstrap_interval
from brain_tumor.survival.models import SurvivalModel
from brain_tumor.survival.settings import BASELINE, HEADLINE, ProtocolSettings

COLUMNS = ["features", "masks", "patients", "deaths", "fitted_to", "concordance", "low", "high"]
EXPERT, PREDICTED, DIFFERENCE = "reference", "predicted", "predicted - reference"


def compare_masks(
    fitted_to: pd.DataFrame,
    expert: pd.DataFrame,
    predicted: pd.DataFrame,
    protocol: ProtocolSettings,
) -> pd.DataFrame:
    """Concordance with the features of either mask, of models fitted to expert masks of other patients.

    Args:
        fitted_to: a row for each patient that models are fitted to: facts, SHAPE, `days`, `observed`.
        expert: the same of other patients, features of the expert mask.
        predicted: the same patients in the same order, features of the predicted mask.

    Returns:
        Rows of COLUMNS: BASELINE, HEADLINE with either mask, and their difference, with 95 % bootstrap intervals over
        patients, paired. Empty where there are too few deaths: `protocol.min_deaths` to fit, or no pair to compare.
    """
    deaths = int(predicted["observed"].sum())
    if fitted_to["observed"].sum() < protocol.min_deaths or deaths < 2:
        return pd.DataFrame(columns=COLUMNS)
    age, shape = (_fit(pair, fitted_to) for pair in (BASELINE, HEADLINE))
    samples = {
        (BASELINE[1], ""): _score(age, BASELINE[1], predicted, protocol),
        (HEADLINE[1], EXPERT): _score(shape, HEADLINE[1], expert, protocol),
        (HEADLINE[1], PREDICTED): _score(shape, HEADLINE[1], predicted, protocol),
    }
    # One seed, and the same patients: the samples are paired.
    samples[HEADLINE[1], DIFFERENCE] = samples[HEADLINE[1], PREDICTED] - samples[HEADLINE[1], EXPERT]
    size = {"patients": len(predicted), "deaths": deaths, "fitted_to": len(fitted_to)}
    rows = [
        {"features": features, "masks": masks, **size, "concordance": sample[0]}
        | bootstrap_interval(sample, size["patients"])
        for (features, masks), sample in samples.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def with_features(patients: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """The same patients in the same order, with the shape features of another table."""
    other = features.set_index("patient").loc[patients["patient"], SHAPE]
    return patients.assign(**{name: other[name].to_numpy() for name in SHAPE})


def _fit(pair: tuple[str, str], patients: pd.DataFrame) -> SurvivalModel:
    return fit(pair, design(patients), *_outcomes(patients))


def _score(model: SurvivalModel, features: str, patients: pd.DataFrame, protocol: ProtocolSettings) -> pd.Series:
    table = design(patients)[FEATURE_SETS[features]]
    predictions = SurvivalPredictions(*_outcomes(patients), model.days(table)[None], model.risk(table)[None])
    return score(predictions, protocol.bootstrap, protocol.seed)["concordance"]


def _outcomes(patients: pd.DataFrame) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    return patients["days"].to_numpy(float), patients["observed"].to_numpy(bool)
