"""Which figures the survival report has, and what goes into them."""

from collections.abc import Sequence

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
    "Cox, age": ("Cox", "age"),
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
    tested = gains[gains["p"].notna()]
    pairs = {"age alone": BASELINE, "age and shape": HEADLINE}
    curves = {
        cohort.name: {name: _curves(cohort, estimates, pair) for name, pair in pairs.items()} for cohort in cohorts
    }
    expected = {
        cohort.name: {name: _scatter(cohort, estimates, pair) for name, pair in pairs.items()} for cohort in cohorts
    }
    calibrations = {
        c.name: {name: Calibration(*calibrate_curves(c, estimates, pair)) for name, pair in WITH_CURVES.items()}
        for c in cohorts
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
    groups = zip(("low risk", "middle", "high risk"), by_risk(mean_risk(cohort, estimates, pair)), strict=True)
    return [
        Curve(label, kaplan_meier(cohort.days[part], cohort.observed[part]), cohort.days[part], cohort.observed[part])
        for label, part in groups
    ]


def list_expected(cohorts: Sequence[Cohort], estimates: pd.DataFrame) -> pd.DataFrame:
    """Days that models which were not fitted to the patient expected, from age alone and with the shape.

    Returns:
        Rows `cohort`, `features`, `patient`, `days`, `observed`, `expected`.
    """
    columns = ["cohort", "features", "patient", "days", "observed", "expected"]
    parts = [
        pd.DataFrame(
            {
                "patient": cohort.patients,
                "days": cohort.days,
                "observed": cohort.observed,
                "expected": mean_days(cohort, estimates, pair),
            }
        ).assign(cohort=cohort.name, features=pair[1])
        for cohort in cohorts
        for pair in (BASELINE, HEADLINE)
    ]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _scatter(cohort: Cohort, estimates: pd.DataFrame, pair: tuple[str, str]) -> Scatter:
    return Scatter(mean_days(cohort, estimates, pair), cohort.days, cohort.observed, f"{pair[0]} model")
