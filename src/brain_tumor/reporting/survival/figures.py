"""Which figures the survival report has, and what goes into them."""

from collections.abc import Sequence
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.figures.survival import (
    Calibration,
    Curve,
    Scatter,
    draw_calibration,
    draw_chance,
    draw_curves,
    draw_expected,
    draw_importances,
    draw_models,
)
from brain_tumor.metrics.survival import CLASS_LIMITS, kaplan_meier
from brain_tumor.survival.cross_validation import Cohort
from brain_tumor.survival.evaluation import by_risk, calibrate_curves, mean_days, mean_risk
from brain_tumor.survival.settings import BASELINE, HEADLINE, HORIZON

LABELS = {"concordance": "concordance", "spearman": "SpearmanR"}
WITH_CURVES = {
    "Cox, age": BASELINE,
    "Cox, age + shape": HEADLINE,
    "log-normal AFT, age + shape": ("log-normal AFT", "age + shape"),
}


def draw(
    cohorts: Sequence[Cohort],
    estimates: pd.DataFrame,
    scores: pd.DataFrame,
    gains: pd.DataFrame,
    chance: pd.DataFrame,
    importances: pd.DataFrame,
    mark: str,
) -> dict[str, Figure]:
    """Figures by name, in the order of the report. `mark`: ends every title."""
    # Only HEADLINE has a p-value: its features are those that were permuted.
    tested = gains[gains["p"].notna()]
    pairs = {"age alone": BASELINE, "age and shape": HEADLINE}
    curves, expected, calibrations = {}, {}, {}
    for cohort in cohorts:
        curves[cohort.name] = {name: _curves(cohort, estimates, pair) for name, pair in pairs.items()}
        expected[cohort.name] = {name: _scatter(cohort, estimates, pair) for name, pair in pairs.items()}
        calibrations[cohort.name] = {
            name: Calibration(*calibrate_curves(cohort, estimates, pair)) for name, pair in WITH_CURVES.items()
        }
    return {
        "1_models": draw_models(scores, LABELS, BASELINE, f"Models compared{mark}"),
        "2_chance": draw_chance(
            chance, tested, LABELS, f"Gain over age alone, with true and with permuted shapes{mark}"
        ),
        "3_curves": draw_curves(
            curves, f"Survival by thirds of the risk that models gave which were not fitted to the patient{mark}"
        ),
        "4_expected": draw_expected(expected, CLASS_LIMITS, f"Expected and true survival{mark}"),
        "5_calibration": draw_calibration(calibrations, HORIZON, f"Calibration of the survival curves{mark}"),
        "6_importances": draw_importances(importances, f"What the Cox model would miss most{mark}"),
    }


def _curves(cohort: Cohort, estimates: pd.DataFrame, pair: tuple[str, str]) -> list[Curve]:
    thirds = by_risk(mean_risk(cohort, estimates, pair))
    curves = []
    for label, part in zip(("low risk", "middle", "high risk"), thirds, strict=True):
        days, observed = cohort.days[part], cohort.observed[part]
        curves.append(Curve(label, kaplan_meier(days, observed), days, observed))
    return curves


def list_expected(cohorts: Sequence[Cohort], estimates: pd.DataFrame) -> pd.DataFrame:
    """Days that models which were not fitted to the patient expected, from age alone and with the shape.

    Returns:
        Rows `cohort`, `features`, `patient`, `days`, `observed`, `expected`.
    """
    columns = ["cohort", "features", "patient", "days", "observed", "expected"]
    parts = []
    for cohort, (model, features) in product(cohorts, (BASELINE, HEADLINE)):
        table = pd.DataFrame(
            {
                "patient": cohort.patients,
                "days": cohort.days,
                "observed": cohort.observed,
                "expected": mean_days(cohort, estimates, (model, features)),
            }
        )
        parts.append(table.assign(cohort=cohort.name, features=features))
    # No cohort has enough deaths: the table has its columns all the same.
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)[columns]


def _scatter(cohort: Cohort, estimates: pd.DataFrame, pair: tuple[str, str]) -> Scatter:
    model, _ = pair
    expected = mean_days(cohort, estimates, pair)
    return Scatter(expected, cohort.days, cohort.observed, f"{model} model")
