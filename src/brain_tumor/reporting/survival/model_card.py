"""What the model card and the data sheet of survival say."""

import pandas as pd

from brain_tumor.data.common.provenance import Origin, find_origin
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.reporting.markdown import CARD, SHEET, render_card, write_list
from brain_tumor.reporting.page import Section
from brain_tumor.reporting.settings_table import FITTING, describe_settings
from brain_tumor.reporting.survival.tables import (
    LIMITS,
    Results,
    count_patients,
    explain_none,
    list_features,
    list_gains,
    list_reasons,
    list_scores,
    write_answer,
    write_protocol,
)
from brain_tumor.survival.settings import ProtocolSettings

MODELS = {
    "median": "expects of everybody the median of the patients it was fitted to: what a model must beat",
    "linear": "ridge regression of log days (scikit-learn); its strength is chosen inside the training patients",
    "forest": "random forest on log days (scikit-learn)",
    "Cox": "penalised proportional hazards (lifelines), fitted to censored patients too",
    "log-normal AFT": "penalised accelerated failure time (lifelines), fitted to censored patients too",
}
USE = (
    "For research and teaching: to ask whether measurements of a mask say anything about survival that age "
    "doesn't. Not for telling patients how long they "
    "will live, nor for any decision about a patient: intervals are wide, and nobody has tested it for that."
)
NOT_KEPT = (
    "There is none: every model is fitted inside the folds, to be validated, and thrown away. What each "
    "expected of each patient is in `estimates.csv`. To "
    "fit one to patients of your own: `brain_tumor.survival.models.MODELS[name]().fit(table, days, observed)`."
)
ALIVE = (
    "Days of patients who are alive are days until they were last seen: for them survival is longer than "
    "the number says. Accuracy and squared "
    "errors leave them out, concordance and the models with curves use them."
)
UNKNOWN = "Treatment other than surgery is not known; where the resection is not known it may have been any."


def compose_model_card(results: Results, protocol: ProtocolSettings, origin: Origin, name: str) -> str:
    """The card of all models of a run. `name`: of the data set."""
    found = find_origin(name, origin, simulated=results.simulated, parameter="data_segmentation.origin")
    used = results.patients[results.patients["excluded"] == ""]
    cohorts = list(results.scores["cohort"].unique())
    figures = [list_scores(results, cohort) for cohort in cohorts]
    # Without a cohort there are no models, and no gains.
    if cohorts:
        figures.insert(0, list_gains(results))
    text = (
        f"{found.text} {len(used)} patients, their features measured on {results.masks}. No split: each is "
        "predicted by models that were not fitted to them."
    )
    sections = [
        Section("What it is", _models(results)),
        Section("Intended use", USE),
        Section(
            "Training data and split",
            text,
            [("Patients in use; medians and quartiles", count_patients(results.patients))],
        ),
        Section(
            "Figures",
            write_protocol(protocol) if cohorts else f"None: {explain_none(results.patients, protocol)}.",
            figures,
        ),
        Section("Known limits", write_list([LIMITS, ALIVE, *found.problems])),
        Section("How to use the weights", NOT_KEPT),
        describe_settings({"protocol": protocol.model_dump()}, FITTING),
        Section("Citations", write_list([*found.sources, CARD])),
    ]
    title = f"Model card: survival from {results.masks}"
    return render_card(title, write_answer(results, protocol), sections, simulated=results.simulated)


def _models(results: Results) -> str:
    pairs = results.scores[["model", "features"]].drop_duplicates()
    if not len(pairs):
        return "No model was fitted."
    said = [
        f"**{model}** on {' / '.join(rows['features'])}: {MODELS.get(model, model)}."
        for model, rows in pairs.groupby("model", sort=False)
    ]
    return (
        f"Models that estimate days of survival from age and from what a mask says of the tumour:\n\n{write_list(said)}"
    )


def compose_data_sheet(results: Results, data_set: DataSet, origin: Origin) -> str:
    """The sheet of the patients of a run."""
    found = find_origin(data_set.name, origin, simulated=results.simulated, parameter="data_segmentation.origin")
    patients = results.patients
    used = patients[patients["excluded"] == ""]
    alive = int((~used["observed"]).sum())
    excluded = len(patients) - len(used)
    sections = [
        Section(
            "Where they are from",
            f"{found.text} Here: {results.masks}, with ages, resections and days from survival_info.csv.",
        ),
        Section(
            "Composition", _composition(used), [("Patients in use; medians and quartiles", count_patients(patients))]
        ),
        Section("Excluded", "" if excluded else "Nobody.", list_reasons(patients)),
        Section("Preparation", _preparation(used), [("Features of the patients in use", list_features(patients))]),
        Section(
            "Sets", "None: cross-validation, whose folds are stratified by days. The model card gives the protocol."
        ),
        Section("Known problems", write_list([ALIVE, UNKNOWN, *found.problems, *_problems(used)])),
        Section("Terms and citations", f"{found.terms}\n\n{write_list([*found.sources, SHEET])}"),
    ]
    summary = f"{len(used)} patients are in use, {alive} of them censored; {excluded} are excluded."
    title = f"Data sheet: survival from {results.masks}"
    return render_card(title, summary, sections, simulated=results.simulated)


def _composition(used: pd.DataFrame) -> str:
    counts = used["grade"].replace("", "not known").value_counts()
    grades = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"A row for each patient: age, resection, grade, days, and what the mask says. Grades: {grades}."


def _preparation(used: pd.DataFrame) -> str:
    if not len(used):
        return "None."
    spacings = used["spacing_mm"].value_counts()
    # The five commonest: scans of several hospitals have many spacings.
    voxels = "; ".join(f"{name} mm ({count})" for name, count in spacings.head(5).items())
    return (
        f"Features are measured in physical units on the voxels as they are: {voxels}. Volumes and "
        "surfaces enter models as log(1 + x)."
    )


def _problems(used: pd.DataFrame) -> list[str]:
    """What the tables themselves show to be missing."""
    said = []
    age = int(used["age"].isna().sum())
    if age:
        said.append(f"Age is not known of {age} patients in use: the median of the training patients takes its place.")
    centre = int((used["centre_from"] == "").sum())
    if centre:
        said.append(f"Where the brain's centre lies is not known for {centre} patients.")
    return said
