"""Nodes that score masks of other networks, whoever trained them, against reference masks."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.files import is_simulated
from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.mask_pairs import MaskLabels, MaskPair, pair_masks, read_pair
from brain_tumor.data.scans.nifti_volumes import read_volume
from brain_tumor.metrics.lesions import COLUMNS, LESION, LESION_DICE, LesionSettings, average_lesions, score_lesions
from brain_tumor.metrics.segmentation import choose_headline, compare_pairs, summarise_patients
from brain_tumor.metrics.volumes import score_volume
from brain_tumor.pipelines.experiments import Figures
from brain_tumor.reporting.formatting import mark_title
from brain_tumor.reporting.score.report import compose_report

logger = logging.getLogger(__name__)

COMPARED = ("dice", "surface_dice", LESION_DICE)
"""Metrics of which predictions are compared in pairs; of each, more is better."""

SCORES = ["patient", "target", "metric", "value"]

Scored = tuple[dict[str, str], pd.DataFrame, pd.DataFrame]
"""Why a pair can't be scored, and what is odd about it ("" if nothing is); its scores, its lesions."""


def score_masks(
    reference: Path,
    predictions: dict[str, Path],
    data_set: DataSet,
    lesion_settings: LesionSettings,
    workers: WorkerSettings,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Index of masks, scores of each patient, and scores of each lesion.

    Index: rows `network` (the name of the prediction), `patient`, `reference_mask`, `predicted_mask`, `note`,
    `excluded` (why there is no score), `in_means` (of the patients whom every prediction has).

    Raises:
        FileNotFoundError: if a folder isn't there or holds no masks.
        ValueError: if no patient has a usable mask in every folder.
    """
    for warning in explain_same(reference, predictions):
        logger.warning(warning)
    pairs = pair_masks(reference, _require_some(predictions), data_set)
    tasks = [(pair, data_set, lesion_settings) for pair in pairs]
    rows, scores, lesions = [], [], []
    for pair, scored in zip(pairs, parallel_map(_score_pair, tasks, workers, "scoring", "mask"), strict=True):
        words, own_scores, own_lesions = scored
        rows.append(_describe(pair) | words)
        for table in (own_scores, own_lesions):
            table.insert(0, "network", pair.prediction)
        scores.append(own_scores)
        lesions.append(own_lesions)
    index = pd.DataFrame(rows)
    used = index[index["excluded"] == ""]
    counts = used.groupby("patient")["network"].nunique()
    everywhere = counts.index[counts == len(predictions)]
    index["in_means"] = index["patient"].isin(everywhere)
    _log_index(index)
    return index, _join(scores), _join(lesions)


def _describe(pair: MaskPair) -> dict[str, str]:
    """The beginning of a row of the index."""
    return {
        "network": pair.prediction,
        "patient": pair.patient,
        "reference_mask": str(pair.reference_file or ""),
        "predicted_mask": str(pair.predicted_file or ""),
    }


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table, with the columns of all where none has a row."""
    # pandas warns of empty tables among those that it joins.
    filled = [table for table in tables if len(table)] or tables[:1]
    return pd.concat(filled, ignore_index=True)


def _require_some(predictions: dict[str, Path]) -> dict[str, Path]:
    if not predictions:
        raise ValueError("there is no folder of predicted masks; give it with `kedro score --prediction FOLDER`")
    return predictions


def explain_same(reference: Path, predictions: dict[str, Path]) -> list[str]:
    """What is suspicious about the folders: one that is given twice."""
    names: dict[Path, str] = {reference.resolve(): "the reference masks"}
    warnings = []
    for name, folder in predictions.items():
        other = names.setdefault(folder.resolve(), name)
        if other != name:
            warnings.append(f"{name} is the same folder as {other} ({folder}): scores of it mean nothing")
    return warnings


def _score_pair(pair: MaskPair, data_set: DataSet, settings: LesionSettings) -> Scored:
    nothing = pd.DataFrame(columns=SCORES), pd.DataFrame(columns=COLUMNS)
    if pair.problem:
        return {"note": "", "excluded": pair.problem}, *nothing
    try:
        masks = read_pair(pair, data_set)
    except ValueError as error:
        return {"note": "", "excluded": str(error)}, *nothing
    volumes = (masks.reference, masks.predicted, masks.spacing, data_set.targets)
    lesions = score_lesions(pair.patient, *volumes, settings)
    means = average_lesions(lesions, pair.patient, list(data_set.targets))
    words = {"note": masks.explain_swap(data_set.tissue_names), "excluded": ""}
    return words, pd.concat([score_volume(pair.patient, *volumes), means], ignore_index=True), lesions


def _log_index(index: pd.DataFrame) -> None:
    """How many patients are scored, and who isn't.

    Raises:
        ValueError: if nobody is scored in every prediction.
    """
    excluded = index[index["excluded"] != ""]
    for row in excluded.itertuples():
        logger.warning("excluded: %s, %s: %s", row.network, row.patient, row.excluded)
    for name, own in index.groupby("network", sort=False):
        usable = (own["excluded"] == "").sum()
        logger.info("%s: %d patients are scored, %d are not", name, usable, len(own) - usable)
        for note, count in own.loc[own["note"] != "", "note"].value_counts().items():
            logger.warning("%s: of %d patients %s; check what its labels mean", name, count, note)
    if not index["in_means"].any():
        first = excluded.iloc[0]
        raise ValueError(
            f"no patient has a usable mask in every folder; {first['network']}, {first['patient']}: "
            f"{first['excluded']}; masks belong together if their names before the suffix are the same"
        )


def compare_predictions(index: pd.DataFrame, patient_scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means with intervals, and paired differences between predictions, over the patients whom all of them have."""
    by_network = _common(index, patient_scores)
    summaries = []
    for name, scores in by_network.items():
        summary = summarise_patients(scores)
        lesion_wise = summary["metric"].str.startswith(LESION)
        summaries.append(summary.assign(network=name, protocol=summary["protocol"].mask(lesion_wise, LESION)))
    comparison = pd.concat(summaries, ignore_index=True)
    comparison.insert(0, "network", comparison.pop("network"))
    differences = pd.concat([compare_pairs(by_network, metric) for metric in COMPARED], ignore_index=True)
    return comparison, differences


def _common(index: pd.DataFrame, patient_scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name of a prediction > the scores of the patients whom every prediction has."""
    common = set(index.loc[index["in_means"], "patient"])
    kept = patient_scores[patient_scores["patient"].isin(common)]
    return {str(name): scores for name, scores in kept.groupby("network", sort=False)}


def draw_masks(
    index: pd.DataFrame,
    patient_scores: pd.DataFrame,
    reference: Path,
    predictions: dict[str, Path],
    data_set: DataSet,
) -> Figures:
    """Reference mask, prediction and errors of the best, the median and the worst patient of each prediction."""
    from brain_tumor.figures.masks import draw_examples
    from brain_tumor.figures.segmentation import choose_patients

    pairs = {(pair.prediction, pair.patient): pair for pair in pair_masks(reference, predictions, data_set)}
    target = choose_headline(data_set.targets)
    simulated = _is_simulated(reference, predictions)
    figures = {}
    for name, scores in _common(index, patient_scores).items():
        chosen = scores[(scores["metric"] == "dice") & (scores["target"] == target)]
        dice = chosen.set_index("patient")["value"]
        examples = []
        for patient, place in choose_patients(dice.to_dict()).items():
            caption = f"{place}: {patient}\n{target} Dice {dice[patient]:.3f}"
            examples.append(_example(pairs[name, patient], caption, data_set))
        title = mark_title(f"{name}: best, median and worst patient", simulated=simulated)
        figures[name] = draw_examples(examples, data_set.tissue_names, title)
    return figures


def _is_simulated(reference: Path, predictions: dict[str, Path]) -> bool:
    return any(is_simulated(folder) for folder in (reference, *predictions.values()))


def _example(pair: MaskPair, caption: str, data_set: DataSet) -> Any:
    """The slice with most of the reference tumour; without any, the one with most of the predicted."""
    from brain_tumor.figures.masks import MaskExample

    masks = read_pair(pair, data_set)
    true_voxels = (masks.reference > 0).sum((0, 1))
    predicted_voxels = (masks.predicted > 0).sum((0, 1))
    # `lexsort` sorts by its last key first.
    number = int(np.lexsort((predicted_voxels, true_voxels))[-1])
    plane = _read_plane(pair, masks, number, data_set)
    title = f"{caption}\nslice {number}"
    return MaskExample(title, plane, masks.reference[..., number], masks.predicted[..., number])


def _read_plane(pair: MaskPair, masks: MaskLabels, number: int, data_set: DataSet) -> np.ndarray:
    """A slice of a scan that lies beside the reference mask; all 0 where there is none that fits."""
    nothing = np.zeros(masks.reference.shape[:2], np.float32)
    volumes = pair.reference.volumes if pair.reference else {}
    modalities = [name for name in data_set.modality_names if name in volumes]
    if not modalities:
        return nothing
    try:
        scan, _ = read_volume(volumes[modalities[0]])
    except ValueError as error:
        logger.warning("%s is drawn without its scan: %s", pair.patient, error)
        return nothing
    return scan[..., number].astype(np.float32) if scan.shape == masks.reference.shape else nothing


def write_report(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    index: pd.DataFrame,
    patient_scores: pd.DataFrame,
    lesions: pd.DataFrame,
    figures: dict[str, bytes],
    reference: Path,
    predictions: dict[str, Path],
    data_set: DataSet,
    lesion_settings: LesionSettings,
) -> str:
    """The report as one HTML page."""
    common = set(index.loc[index["in_means"], "patient"])
    folders = {"reference": str(reference), "prediction": {name: str(folder) for name, folder in predictions.items()}}
    return compose_report(
        [comparison, differences, index, lesions[lesions["patient"].isin(common)]],
        _common(index, patient_scores),
        figures,
        {"folders": folders, "lesions": lesion_settings, "data_set": data_set.name},
        lesion_settings,
        explain_same(reference, predictions),
        simulated=_is_simulated(reference, predictions),
    )
