"""What the survival report says."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from brain_tumor.metrics.survival import CLASS_LIMITS
from brain_tumor.reporting.formatting import write_intervals
from brain_tumor.reporting.interactive_plot import Plot, draw_scatter
from brain_tumor.reporting.page import Fold, Picture, Section, Words, render_report
from brain_tumor.reporting.settings_table import FITTING, describe_settings
from brain_tumor.reporting.survival.tables import (
    LIMITS,
    Results,
    count_patients,
    find_commonest,
    list_features,
    list_gains,
    list_reasons,
    list_scores,
    write_answer,
    write_protocol,
)
from brain_tumor.survival.settings import ProtocolSettings

WORDS = {
    "1_models": Words(
        (
            "Concordance and SpearmanR of each model with 95 % bootstrap intervals over patients; grey: models on age "
            "alone."
        ),
        (
            "a dot and an interval for each model, concordance on the left and SpearmanR on the right; the "
            "tables of models have the numbers"
        ),
    ),
    "2_chance": Words(
        (
            "Gain of the Cox model on age and shape over age alone (line), and the gains when each patient is "
            "given another's shape (bars)."
        ),
        (
            "histograms of the gains that permuted shapes give, with a line at the gain of the true shapes; "
            "the table of gains has the numbers"
        ),
    ),
    "3_curves": Words(
        (
            "Kaplan-Meier curves with 95 % intervals of patients in thirds of their risk, and how many are still at "
            "risk; ticks: censored patients. The axis ends where fewer than three patients are at risk."
        ),
        (
            "stepped survival curves of low, middle and high risk, from models on age alone and on age and "
            "shape, with the median days of each in the legend"
        ),
    ),
    "5_calibration": Words(
        "Left: patients in fifths of the probability to be alive after a year, against the part that was. "
        "Right: deaths in each tenth of the "
        "probability that the curve gave for the day of death; if the curves are right they are equally "
        "many (black line).",
        "two charts for each group of patients: probability expected against part alive, with the "
        "diagonal; and deaths in tenths of probability, with their "
        "mean",
    ),
    "6_importances": Words(
        "Loss of concordance in held-out patients when one feature is shuffled among them, with corrected "
        "95 % intervals over the folds. "
        "Correlated features share their importance: each may then seem to have none.",
        "a dot and an interval for each of the features that matter most; the tables have the numbers",
    ),
    "changes": Words(
        "Each feature from the predicted mask against the same from the reference mask, a dot for each patient.",
        (
            "a scatter plot for each feature, predicted against reference, with the diagonal; the table of "
            "changes has the numbers"
        ),
    ),
}
REPLACED = ("4_expected",)
"""Figures that are plots in the report."""

Pictures = Mapping[str, Picture]
"""By the name of the figure."""

EXPECTED = (
    "Days expected by models that were not fitted to the patient (geometric mean over the repeats) against "
    "true days, {cohort}. The dashed lines are the "
    "diagonal and the limits of the classes of BraTS. Point at a dot to see which patient it is."
)


def compose_report(
    results: Results,
    protocol: ProtocolSettings,
    figures: Mapping[str, bytes],
    expected: pd.DataFrame,
) -> str:
    """The page: the answer, the evidence, each model, the patients, the features, settings and versions.

    Args:
        figures: name > PNG.
        expected: rows `cohort`, `features`, `patient`, `days`, `observed`, `expected`.
    """
    shown = {name: png for name, png in figures.items() if name not in REPLACED}
    pictures = {name: Picture(png, WORDS[name], results.masks) for name, png in shown.items()}
    # Changes of features come first: on them depends whether the rest can be trusted.
    sections = [_changes(results, pictures)] if results.changes is not None else []
    if len(results.scores):
        sections += [
            _evidence(protocol, pictures),
            _curves(pictures, expected),
            _models(results, pictures),
            _importances(results, pictures),
        ]
    # Without models there is no validation to describe.
    folds = [Fold("Validation protocol", write_protocol(protocol))] if len(results.scores) else []
    sections += [_patients(results), _features(results), Section("Limits", LIMITS, folds=folds)]
    sections.append(describe_settings({"protocol": protocol.model_dump()}, FITTING))
    title = f"Survival from the segmentation: {results.masks}"
    table = list_gains(results) if len(results.scores) else ("Patients", count_patients(results.patients))
    return render_report(title, write_answer(results, protocol), table, sections, simulated=results.simulated)


def _evidence(protocol: ProtocolSettings, pictures: Pictures) -> Section:
    text = "A Cox model on age alone against one on age and shape of the tumour."
    measured = (
        "There are two intervals. One is the expanded percentile bootstrap over patients (Hesterberg 2015), in pairs, "
        "of estimates by models that were not fitted to them. The other is the corrected resampled t-test over the "
        "folds (Nadeau & Bengio 2003), which allows for the fact that other patients would give other models; it "
        "compares patients of one fold only. The permutation test gives the shapes to other patients "
        f"{protocol.permutations} times and counts how often they then gain as much (p, one-sided; 95 of 100 "
        "permutations stay below “chance”). Uninformative shapes cost a model: their gains lie below 0. So p tests "
        "whether shape holds anything that age doesn't; the intervals, whether a model of these patients gains by it. "
        "“Adds” in the answer needs all three: both intervals above 0, and p < 0.05; “may add” a gain above 0 and one "
        "of them."
    )
    heading, folds = "Does the segmentation add to age?", [Fold("How measured", measured)]
    return Section(heading, text, pictures=_pick(pictures, "2"), folds=folds)


def _models(results: Results, pictures: Pictures) -> Section:
    """All models of each group of patients: a figure, then a folded table for each group."""
    folds = []
    for cohort, scores in results.scores.groupby("cohort", sort=False):
        # They are the same in every row of a cohort.
        patients, deaths = scores[["patients", "deaths"]].iloc[0]
        alive = f"; {patients - deaths} are censored and count in concordance alone" if patients > deaths else ""
        text = (
            f"{patients} patients, {deaths} of whom died{alive}. Accuracy is over three classes; the most frequent of "
            f"them is {find_commonest(results, cohort)}. “median” predicts for everybody the median of the other "
            "patients: any model must do better. Mean SE and median SE: squared error, in 1000 days²."
        )
        folds.append(Fold(f"Scores of all models: {cohort}", text, [list_scores(results, cohort)]))
    return Section("Models", pictures=_pick(pictures, "1"), folds=folds)


def _curves(pictures: Pictures, expected: pd.DataFrame) -> Section:
    text = (
        "Survival curves of Cox and accelerated failure time models. Calibration: probabilities after 365 days in "
        "fifths of the patients, and D-calibration (Haider et al. 2020) over the whole curves; a high p-value means "
        "that no flaw is seen, not that there is none."
    )
    return Section("Curves", text, [], _pick(pictures, "3", "5"), _expected(expected))


def _expected(expected: pd.DataFrame) -> list[Plot]:
    """A plot for each group of patients: days expected against true days."""
    table = expected.assign(name=expected["patient"], x=expected["days"], value=expected["expected"])
    table["series"] = "from " + table["features"] + np.where(table["observed"], "", ", alive on that day")
    table["says"] = [
        (
            f"{row.patient}: {'died on' if row.observed else 'alive on'} day {row.days:.0f}; "
            f"{row.expected:.0f} days expected from {row.features}"
        )
        for row in table.itertuples()
    ]
    return [
        draw_scatter(dots, ("true days", "expected days"), CLASS_LIMITS, EXPECTED.format(cohort=cohort))
        for cohort, dots in table.groupby("cohort", sort=False)
    ]


def _importances(results: Results, pictures: Pictures) -> Section:
    tables = []
    for cohort, mine in results.importances.groupby("cohort", sort=False):
        names = {"loss": "loss of concordance", "low": "95 % low", "high": "95 % high"}
        shown = mine.head(8).drop(columns="cohort").rename(columns=names)
        tables.append((f"{cohort}: the eight that matter most", shown))
    return Section("What matters", "", tables, _pick(pictures, "6"))


def _patients(results: Results) -> Section:
    used = results.patients[results.patients["excluded"] == ""]
    alive = int((~used["observed"]).sum())
    excluded = len(results.patients) - len(used)
    text = f"{len(used)} patients are used, {alive} of them censored; {excluded} are excluded."
    # Two features are measured from the brain's centre, which a mask alone doesn't show.
    unknown = int((used["centre_from"] == "").sum())
    if unknown:
        text += (
            f" Where the brain's centre lies is not known for {unknown}: no scan beside the mask, and not in "
            "the space of BraTS."
        )
    return Section("Patients", text, list_reasons(results.patients))


def _features(results: Results) -> Section:
    text = (
        "WT is NCR + ED + ET, TC is NCR + ET. A ball has sphericity 1. Besides: gtr, 1 after gross total "
        "resection; hgg, 1 for high grade."
    )
    return Section("Features", text, [("Features of the patients in use", list_features(results.patients))])


def _changes(results: Results, pictures: Pictures) -> Section:
    assert results.changes is not None
    table = results.changes.drop(columns="network").rename(columns={"low": "limits, low", "high": "limits, high"})
    # A feature that is not known of some patients is compared in fewer.
    text = (
        f"Features of the same slices of {table['patients'].max()} patients that the network was not trained on, "
        "measured on the reference mask and on the predicted mask. Volumes, surfaces, components and extents of an "
        "empty mask are 0, its other features are not known. Bias is the mean of predicted - reference; between the "
        "limits of agreement (from 5 patients on) lie the differences of 95 of 100 single patients."
    )
    tables = [("Change of each feature", table)]
    if results.concordances is not None and len(results.concordances):
        others = results.concordances["fitted_to"].max()
        text += (
            f" Concordance is that of models fitted to the reference masks of {others} other patients, given the "
            "features of either mask."
        )
        words = write_intervals(results.concordances, "concordance")
        shown = results.concordances[["features", "masks", "patients", "deaths"]].assign(concordance=words)
        tables.insert(0, ("What the masks change in the concordance, with 95 % intervals over patients", shown))
    return Section("Predicted against reference masks", text, tables, _pick(pictures, "changes"))


def _pick(pictures: Pictures, *starts: str) -> list[Picture]:
    return [picture for name, picture in pictures.items() if name.startswith(starts)]
