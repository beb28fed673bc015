"""Nodes of survival. Those that fit models import scikit-learn and lifelines when they run: it takes seconds."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.data.common.files import is_simulated
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.common.provenance import Origin
from brain_tumor.data.common.store import Store, require_made_from
from brain_tumor.data.scans.clinical_tables import read_clinical_rows
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import find_masks
from brain_tumor.data.survival import cohort as survival
from brain_tumor.data.survival.shape_features import FEATURES, require_targets
from brain_tumor.data.survival.tumour_masks import centre_of_slices, measure_file, measure_slices
from brain_tumor.metrics.agreement import compare_measurements
from brain_tumor.reporting.survival.model_card import compose_data_sheet, compose_model_card
from brain_tumor.reporting.survival.report import compose_report
from brain_tumor.reporting.survival.tables import Results, explain_none
from brain_tumor.survival.settings import ProtocolSettings

if TYPE_CHECKING:
    from brain_tumor.survival.cross_validation import Cohort

logger = logging.getLogger(__name__)

ALL_PATIENTS = "all patients"

ESTIMATES = [
    "cohort",
    "model",
    "features",
    "repeat",
    "fold",
    "patient",
    "days",
    "risk",
    "alive_at_horizon",
    "alive_at_own",
]
LOSSES = ["cohort", "feature", "loss", "low", "high"]
CHANCE = ["cohort", "permutation", "metric", "gain"]
SCORES = ["cohort", "model", "features", "metric", "value", "low", "high", "patients", "deaths"]
GAINS = [
    "cohort",
    "model",
    "features",
    "metric",
    "gain",
    "low",
    "high",
    "fold_gain",
    "fold_low",
    "fold_high",
    "chance",
    "p",
]


def measure_masks(source: Path, data_set: DataSet, workers: WorkerSettings) -> pd.DataFrame:
    """FEATURES of every mask below the source, or why it can't be measured.

    Raises:
        ValueError: if the data set has other tissues or regions than features are made of.
    """
    require_targets(data_set.targets)
    tasks = [(found, data_set, source) for found in find_masks(source, data_set)]
    features = pd.concat(parallel_map(measure_file, tasks, workers, "measuring"), ignore_index=True)
    features["simulated"] = is_simulated(source)
    files = features.groupby("patient")["file"].transform(" and ".join)
    twice = features.duplicated("patient", keep=False)
    features.loc[twice, "excluded"] = "several masks: " + files[twice] + "; keep one"
    return _report_measured(features.drop_duplicates("patient", ignore_index=True))


def measure_predictions(predictions: Store, slices: Store, data_set: DataSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """FEATURES of every patient of a network's predictions, and those of the expert masks of the same slices."""
    require_made_from(predictions, slices)
    require_targets(data_set.targets)
    predicted, expert = [], []
    table = slices.rows
    for patient, found in predictions.rows.groupby("patient"):
        own = table.loc[found["row"]]
        labels, image = slices.read(found["row"].to_numpy(), "labels", "image")
        (masks,) = predictions.read(found.index.to_numpy(), "found")
        centre = centre_of_slices((image != 0).any(1), own)
        predicted.append(measure_slices(patient, masks, own, centre, data_set))
        expert.append(measure_slices(patient, labels, own, centre, data_set))
    simulated = bool(slices.description["simulated"])
    features, expert_features = (
        pd.concat(parts, ignore_index=True).assign(simulated=simulated) for parts in (predicted, expert)
    )
    return _report_measured(features), _report_measured(expert_features)


def _report_measured(features: pd.DataFrame) -> pd.DataFrame:
    excluded = features[features["excluded"] != ""]
    logger.info("%d masks are measured, %d can't be", len(features) - len(excluded), len(excluded))
    for row in excluded.itertuples():
        logger.warning("left out: %s: %s", row.patient, row.excluded)
    return features


def compare_masks(features: pd.DataFrame, expert_features: pd.DataFrame, predictions: Store) -> pd.DataFrame:
    """How each feature changes when a network's mask takes the place of the expert's.

    Bias, limits of agreement, correlation.
    """
    changes = compare_measurements(expert_features, features, [feature.name for feature in FEATURES])
    return changes.rename(columns={"first": "expert", "second": "predicted"}).assign(
        network=predictions.description["network"]
    )


def join_patients(features: pd.DataFrame, tables: Path, data_set: DataSet, protocol: ProtocolSettings) -> pd.DataFrame:
    """A row for each patient with a mask or a survival: facts, features, and why he is left out.

    Raises:
        FileNotFoundError: if no survival is known of anybody.
    """
    patients = join_predicted_patients(features, tables, data_set, protocol)
    if patients["days"].isna().all():
        raise FileNotFoundError(
            f"{tables} holds no survival_info.csv with known days; give the folder of the tables with "
            "`--params survival_tables=PATH`"
        )
    return patients


def join_predicted_patients(
    features: pd.DataFrame, tables: Path, data_set: DataSet, protocol: ProtocolSettings
) -> pd.DataFrame:
    """The same for predicted masks, whose features can be compared with those of expert masks without tables too."""
    patients = survival.join_patients(features, read_clinical_rows(tables), data_set)
    patients["simulated"] |= is_simulated(tables)
    used = patients[patients["excluded"] == ""]
    logger.info(
        "%d patients are modelled, %d of them known only to be alive; %d left out",
        len(used),
        (~used["observed"]).sum(),
        len(patients) - len(used),
    )
    for reason, count in patients.loc[patients["excluded"] != "", "excluded"].value_counts().items():
        logger.info("left out: %d: %s", count, reason)
    if reason := explain_none(patients, protocol):
        logger.warning("the report has features alone: %s", reason)
    return patients


def _cohorts(patients: pd.DataFrame, protocol: ProtocolSettings) -> list["Cohort"]:
    """All patients in use, and those with gross total resection, where enough of them died and their ages differ."""
    from brain_tumor.survival.cross_validation import Cohort

    used = patients[patients["excluded"] == ""].sort_values("patient", ignore_index=True)
    parts = {ALL_PATIENTS: used, survival.GTR: used[used["resection"] == survival.GTR].reset_index(drop=True)}
    return [
        Cohort(
            name,
            part["patient"].tolist(),
            survival.design(part),
            part["days"].to_numpy(float),
            part["observed"].to_numpy(bool),
        )
        for name, part in parts.items()
        if part["observed"].sum() >= protocol.min_deaths and part["age"].nunique() > 1
    ]


def cross_validate(
    patients: pd.DataFrame, protocol: ProtocolSettings, workers: WorkerSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each model expects of patients it was not fitted to, and what each feature is worth."""
    from brain_tumor.survival import cross_validation as validation
    from brain_tumor.survival import evaluation

    results = [validation.cross_validate(cohort, protocol, workers) for cohort in _cohorts(patients, protocol)]
    importances = [evaluation.summarise_importance(losses) for _, losses in results]
    return _table([estimates for estimates, _ in results], ESTIMATES), _table(importances, LOSSES)


def permute_shapes(
    patients: pd.DataFrame, estimates: pd.DataFrame, protocol: ProtocolSettings, workers: WorkerSettings
) -> pd.DataFrame:
    """What the shapes of other patients add to age: the gains that chance gives."""
    from brain_tumor.survival import cross_validation as validation
    from brain_tumor.survival import evaluation

    cohorts = _cohorts(patients, protocol)
    return _table(
        [evaluation.gains_by_chance(c, estimates, validation.permute_shapes(c, protocol, workers)) for c in cohorts],
        CHANCE,
    )


def score_models(
    patients: pd.DataFrame, estimates: pd.DataFrame, chance: pd.DataFrame, protocol: ProtocolSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of every model, and gains over age alone, with intervals."""
    from brain_tumor.survival.evaluation import score_cohort

    results = [score_cohort(cohort, estimates, chance, protocol) for cohort in _cohorts(patients, protocol)]
    return _table([scores for scores, _ in results], SCORES), _table([gains for _, gains in results], GAINS)


def _table(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The parts under each other; with none, an empty table of these columns."""
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def draw_results(
    patients: pd.DataFrame,
    estimates: pd.DataFrame,
    scores: pd.DataFrame,
    gains: pd.DataFrame,
    chance: pd.DataFrame,
    importances: pd.DataFrame,
    protocol: ProtocolSettings,
) -> dict[str, Figure]:
    """Every figure of the report; none where no cohort is large enough."""
    from brain_tumor.reporting.survival.figures import draw

    cohorts = _cohorts(patients, protocol)
    simulated = bool(patients["simulated"].any())
    return (
        draw(cohorts, estimates, scores, gains, chance, importances, ", SIMULATED" if simulated else "")
        if cohorts
        else {}
    )


def draw_changes(features: pd.DataFrame, expert_features: pd.DataFrame) -> dict[str, Figure]:
    """Each feature from predicted masks against the same from expert masks."""
    from brain_tumor.figures import survival as figures

    names = {feature.name: feature.unit for feature in FEATURES}
    expert, predicted = (table.melt("patient", list(names), "feature") for table in (expert_features, features))
    pairs = expert.merge(predicted, on=["patient", "feature"]).rename(
        columns={"value_x": "expert", "value_y": "predicted"}
    )
    simulated = ", SIMULATED" if features["simulated"].any() else ""
    return {"changes": figures.draw_changes(pairs, names, f"Features from expert and from predicted masks{simulated}")}


def write_report(
    patients: pd.DataFrame,
    estimates: pd.DataFrame,
    scores: pd.DataFrame,
    gains: pd.DataFrame,
    importances: pd.DataFrame,
    figures: dict[str, bytes],
    protocol: ProtocolSettings,
    changes: pd.DataFrame | None = None,
    change_figures: dict[str, bytes] | None = None,
) -> str:
    """The report as one HTML page. `changes`.

    How features differ from those of expert masks, where the masks are a network's.
    """
    from brain_tumor.reporting.survival.figures import list_expected

    expected = list_expected(_cohorts(patients, protocol), estimates)
    results = Results(patients, scores, gains, importances, changes)
    return compose_report(results, protocol, {**figures, **(change_figures or {})}, expected)


def write_cards(
    patients: pd.DataFrame,
    scores: pd.DataFrame,
    gains: pd.DataFrame,
    importances: pd.DataFrame,
    protocol: ProtocolSettings,
    data_set: DataSet,
    origin: Origin,
    changes: pd.DataFrame | None = None,
) -> tuple[str, str]:
    """The model card and the data sheet."""
    results = Results(patients, scores, gains, importances, changes)
    return compose_model_card(results, protocol, origin, data_set.name), compose_data_sheet(results, data_set, origin)
