"""Nodes of survival. scikit-learn and lifelines take seconds to import, so nodes import them when they run."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

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
from brain_tumor.pipelines.experiments import Figures
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
NULL_GAINS = ["cohort", "permutation", "metric", "gain"]
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
    "null_95",
    "p",
]


def measure_masks(source: Path, data_set: DataSet, workers: WorkerSettings) -> pd.DataFrame:
    """FEATURES of every mask below the source, and in `excluded` why one can't be measured.

    Raises:
        ValueError: if the data set has other tissues or regions than features are made of.
    """
    require_targets(data_set.targets)
    tasks = [(files, data_set, source) for files in find_masks(source, data_set)]
    features = pd.concat(parallel_map(measure_file, tasks, workers, "measuring"), ignore_index=True)
    features["simulated"] = is_simulated(source)
    # One of two masks can't be chosen here: they may be of two visits, or by two readers.
    files = features.groupby("patient")["file"].transform(" and ".join)
    twice = features.duplicated("patient", keep=False)
    features.loc[twice, "excluded"] = "several masks: " + files[twice] + "; keep one"
    return _log_measured(features.drop_duplicates("patient", ignore_index=True))


def measure_predictions(predictions: Store, slices: Store, data_set: DataSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """FEATURES of every patient from a network's predicted masks, and from the expert masks of the same slices."""
    require_made_from(predictions, slices)
    require_targets(data_set.targets)
    from_predicted, from_expert = [], []
    for patient, rows in predictions.rows.groupby("patient"):
        own = slices.rows.loc[rows["row"]]
        labels, image = slices.read(rows["row"].to_numpy(), "labels", "image")
        (predicted,) = predictions.read(rows.index.to_numpy(), "predicted")
        # The brain's centre, from which positions are measured; pixels outside the brain are 0 in all modalities.
        centre = centre_of_slices((image != 0).any(1), own)
        from_predicted.append(measure_slices(patient, predicted, own, centre, data_set))
        from_expert.append(measure_slices(patient, labels, own, centre, data_set))
    simulated = bool(slices.description["simulated"])
    features = pd.concat(from_predicted, ignore_index=True).assign(simulated=simulated)
    expert_features = pd.concat(from_expert, ignore_index=True).assign(simulated=simulated)
    return _log_measured(features), _log_measured(expert_features)


def _log_measured(features: pd.DataFrame) -> pd.DataFrame:
    excluded = features[features["excluded"] != ""]
    logger.info("%d masks are measured, %d can't be", len(features) - len(excluded), len(excluded))
    for row in excluded.itertuples():
        logger.warning("excluded: %s: %s", row.patient, row.excluded)
    return features


def compare_masks(features: pd.DataFrame, expert_features: pd.DataFrame, predictions: Store) -> pd.DataFrame:
    """Agreement of the features from predicted with those from expert masks: bias, limits, correlation."""
    names = [feature.name for feature in FEATURES]
    changes = compare_measurements(expert_features, features, names)
    changes = changes.rename(columns={"first": "expert", "second": "predicted"})
    return changes.assign(network=predictions.description["network"])


def compare_concordances(
    patients: pd.DataFrame,
    expert_features: pd.DataFrame,
    expert_patients: pd.DataFrame,
    protocol: ProtocolSettings,
) -> pd.DataFrame:
    """Concordance with the features of expert and of predicted masks, of models fitted to other patients' expert masks.

    Args:
        patients: with the features of the predicted masks.
        expert_features: of the same patients.
        expert_patients: of the pipeline `survival`. Whoever is among `patients` too is left out.
    """
    from brain_tumor.survival import two_masks

    measured = expert_features.loc[expert_features["excluded"] == "", "patient"]
    used = patients[(patients["excluded"] == "") & patients["patient"].isin(measured)]
    others = expert_patients[expert_patients["excluded"] == ""]
    others = others[~others["person"].isin(used["person"])]
    if others["simulated"].any() != used["simulated"].any():
        logger.warning(
            "the masks of survival_source are %s and those of the network are not: their survival isn't compared",
            "simulated" if others["simulated"].any() else "real",
        )
        used = used.iloc[:0]
    return two_masks.compare_masks(others, two_masks.with_features(used, expert_features), used, protocol)


def join_patients(features: pd.DataFrame, tables: Path, data_set: DataSet, protocol: ProtocolSettings) -> pd.DataFrame:
    """A row for each patient with a mask or a survival time: facts, features, and in `excluded` a reason.

    Raises:
        FileNotFoundError: if the tables hold no survival time.
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
    """The same for predicted masks; tables may be missing."""
    # Without survival the features of predicted and expert masks are still compared.
    patients = survival.join_patients(features, read_clinical_rows(tables), data_set)
    patients["simulated"] |= is_simulated(tables)
    used = patients[patients["excluded"] == ""]
    censored, excluded = (~used["observed"]).sum(), len(patients) - len(used)
    message = "%d patients are modelled, %d of them censored; %d excluded"
    logger.info(message, len(used), censored, excluded)
    for reason, count in patients.loc[patients["excluded"] != "", "excluded"].value_counts().items():
        logger.info("excluded: %d: %s", count, reason)
    if reason := explain_none(patients, protocol):
        logger.warning("the report has features alone: %s", reason)
    return patients


def _cohorts(patients: pd.DataFrame, protocol: ProtocolSettings) -> list["Cohort"]:
    """All included patients, and those with gross total resection, where enough died and their ages differ."""
    from brain_tumor.survival.cross_validation import Cohort

    used = patients[patients["excluded"] == ""].sort_values("patient", ignore_index=True)
    resected = used[used["resection"] == survival.GTR].reset_index(drop=True)
    cohorts = []
    for name, part in ((ALL_PATIENTS, used), (survival.GTR, resected)):
        # Without different ages the baseline, regression on age, can't be fitted.
        if part["observed"].sum() < protocol.min_deaths or part["age"].nunique() < 2:
            continue
        days, observed = part["days"].to_numpy(float), part["observed"].to_numpy(bool)
        cohorts.append(Cohort(name, part["patient"].tolist(), survival.design(part), days, observed))
    return cohorts


def cross_validate(
    patients: pd.DataFrame, protocol: ProtocolSettings, workers: WorkerSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Held-out predictions of each model, and the permutation importance of each feature."""
    from brain_tumor.survival import cross_validation as validation
    from brain_tumor.survival import evaluation

    estimates, importances = [], []
    for cohort in _cohorts(patients, protocol):
        predictions, losses = validation.cross_validate(cohort, protocol, workers)
        estimates.append(predictions)
        importances.append(evaluation.summarise_importance(losses))
    return _table(estimates, ESTIMATES), _table(importances, LOSSES)


def permute_shape_features(
    patients: pd.DataFrame, estimates: pd.DataFrame, protocol: ProtocolSettings, workers: WorkerSettings
) -> pd.DataFrame:
    """Permutation null: gains over age alone when the shape features are permuted among the patients."""
    from brain_tumor.survival import cross_validation as validation
    from brain_tumor.survival import evaluation

    gains = []
    for cohort in _cohorts(patients, protocol):
        permuted = validation.cross_validate_permuted(cohort, protocol, workers)
        gains.append(evaluation.permutation_gains(cohort, estimates, permuted))
    return _table(gains, NULL_GAINS)


def score_models(
    patients: pd.DataFrame, estimates: pd.DataFrame, permutation_null: pd.DataFrame, protocol: ProtocolSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of every model, and gains over age alone, with intervals."""
    from brain_tumor.survival.evaluation import score_cohort

    scores, gains = [], []
    for cohort in _cohorts(patients, protocol):
        cohort_scores, cohort_gains = score_cohort(cohort, estimates, permutation_null, protocol)
        scores.append(cohort_scores)
        gains.append(cohort_gains)
    return _table(scores, SCORES), _table(gains, GAINS)


def _table(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The tables, concatenated; without any, an empty table of these columns."""
    if not parts:
        # Reports and cards are written for too small cohorts too, and read these columns.
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)[columns]


def draw_results(
    patients: pd.DataFrame,
    estimates: pd.DataFrame,
    scores: pd.DataFrame,
    gains: pd.DataFrame,
    permutation_null: pd.DataFrame,
    importances: pd.DataFrame,
    protocol: ProtocolSettings,
) -> Figures:
    """The figures of the report by name; none without a cohort that is large enough."""
    from brain_tumor.reporting.survival.figures import draw

    cohorts = _cohorts(patients, protocol)
    if not cohorts:
        return {}
    mark = ", SIMULATED" if patients["simulated"].any() else ""
    return draw(cohorts, estimates, scores, gains, permutation_null, importances, mark)


def draw_changes(features: pd.DataFrame, expert_features: pd.DataFrame) -> Figures:
    """Figure of each feature from predicted masks against the same from expert masks."""
    from brain_tumor.figures import survival as figures

    names = {feature.name: feature.unit for feature in FEATURES}
    expert = expert_features.melt("patient", list(names), "feature", "expert")
    predicted = features.melt("patient", list(names), "feature", "predicted")
    pairs = expert.merge(predicted, on=["patient", "feature"])
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
    concordances: pd.DataFrame | None = None,
) -> str:
    """The report as one HTML page.

    Args:
        changes: agreement of the features with those of expert masks, where the masks are a network's.
        concordances: with the features of either mask, likewise.
    """
    from brain_tumor.reporting.survival.figures import list_expected

    expected = list_expected(_cohorts(patients, protocol), estimates)
    results = Results(patients, scores, gains, importances, changes, concordances)
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
