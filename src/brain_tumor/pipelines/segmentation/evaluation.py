"""Nodes that evaluate one network on the test patients. torch takes seconds to import, so nodes import it when run."""

import logging
from collections.abc import Collection, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.parallel import track
from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.store import Chunk, Store, StoreContent, require_made_from
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics import segmentation as metrics
from brain_tumor.metrics.surfaces import score_surfaces, to_volume
from brain_tumor.metrics.uncertainty import CONFIDENCE, soft_dice_confidence
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.pipelines.experiments import Figures, warn_of_missed
from brain_tumor.training.settings import EngineSettings, PredictionSettings

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

NAMED = 5
"""Patients that a message names."""

COST_SLICES = 64
"""Slices from which the speed of prediction is measured."""

CROSS_VALIDATION = "cross-validation"
"""The set of patients with out-of-fold predictions, each by the member of the ensemble not trained on that patient."""


def predict_patients(
    network: TrainedNetwork,
    slices: Store,
    splits: pd.DataFrame,
    prediction: PredictionSettings,
    engine: EngineSettings,
) -> StoreContent:
    """Probability of each tissue and predicted labels of every slice of the test patients.

    After a cross-validation also out-of-fold predictions of all other patients.

    Raises:
        ValueError: if the network was trained on a test patient, or on slices of another kind.
    """
    require_unseen(network, slices, splits)
    about = slices.description
    description = {
        "network": network.experiment,
        "tissues": about["tissues"],
        "simulated": about["simulated"],
        "made_from": about["fingerprint"],
        "weights": network.digest,
    }
    chunks = _predict(network, slices, splits, prediction, engine)
    return StoreContent(description | prediction.model_dump(), chunks)


def require_unseen(network: TrainedNetwork, slices: Store, splits: pd.DataFrame) -> None:
    """Refuse a network of an earlier preparation or earlier sets, which may have been trained on test patients.

    Test patients that only the initial checkpoint was trained on are let pass; reports name them beside the scores.

    Raises:
        ValueError: naming what differs.
    """
    about = network.description
    again = "train it again, such as with `kedro run --pipelines segmentation`"
    for entry in ("modalities", "tissues", "slice_size"):
        was, now = about[entry], slices.description[entry]
        if was != now:
            raise ValueError(
                f"{network.experiment} was trained on slices whose {entry} was {was}, but it is {now} now; {again}"
            )
    network.require_preparation(slices.description.get("preparation"))
    reported = (about.get("initialised_from") or {}).get("scored") or []
    tested = set(splits.loc[splits["split"] == TEST, "patient"])
    # Phantoms have the names of real patients, but aren't them.
    same_kind = about["simulated"] == slices.description["simulated"]
    trained_on = set(about.get("patients", [])) if same_kind else set()
    leaked = sorted(tested & trained_on - set(reported))
    if leaked:
        names = ", ".join(leaked[:NAMED])
        if len(leaked) > NAMED:
            names += ", ..."
        raise ValueError(
            f"{network.experiment} was trained on {len(leaked)} of the {len(tested)} test patients ({names}): "
            f"the sets were drawn anew since; {again}"
        )


def _predict(
    network: TrainedNetwork,
    slices: Store,
    splits: pd.DataFrame,
    prediction: PredictionSettings,
    engine: EngineSettings,
) -> Iterator[Chunk]:
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.segmentation.prediction import predict_probabilities

    table = slices.rows
    tissues = slices.description["tissues"]
    device = choose_device(engine)
    for name, module, patients in list_predicted(network, splits):
        chosen = table[table["patient"].isin(patients)]
        groups = chosen.groupby("patient", sort=False).groups
        for patient, rows in track(groups.items(), f"predicting with {network.experiment}"):
            own = table.loc[rows]
            numbers = rows.to_numpy()
            batches = predict_probabilities(module, slices, numbers, device, tta_flip=prediction.tta_flip)
            # One patient in memory at a time: postprocessing needs the whole volume.
            probability = np.concatenate(list(batches))
            predicted = metrics.to_labels(probability)
            yield {
                "probability": probability,
                "predicted": postprocess(predicted, own, prediction, tissues),
                "row": numbers,
                "slice": own["slice"].to_numpy(),
                "patient": np.array([patient] * len(own), dtype=object),
                "set": np.array([name] * len(own), dtype=object),
            }


def list_predicted(network: TrainedNetwork, splits: pd.DataFrame) -> list[tuple[str, "nn.Module", Collection[str]]]:
    """Sets of patients, each with its name and the network, not trained on them, that predicts it."""
    test_patients = splits.loc[splits["split"] == TEST, "patient"]
    parts: list[tuple[str, nn.Module, Collection[str]]] = [(TEST, network.module(), test_patients)]
    if len(network.members) > 1:
        for number, patients in enumerate(network.description["validation_patients"]):
            parts.append((CROSS_VALIDATION, network.member(number), patients))
    return parts


def postprocess(
    predicted: np.ndarray,
    rows: pd.DataFrame,
    prediction: PredictionSettings,
    tissues: list[str],
) -> np.ndarray:
    """The labels of a patient's slices, postprocessed where the slices make a volume."""
    numbers = rows["slice"].to_numpy()
    spacing = rows[["row_mm", "column_mm", "slice_mm"]].iloc[0]
    row_mm, column_mm, slice_mm = spacing.astype(float)
    stacked = to_volume(predicted, numbers, slice_mm)
    # Connected components of a few single slices mean nothing.
    if stacked is None:
        return predicted
    volume, step = stacked
    voxel_ml = row_mm * column_mm * slice_mm * step / 1000
    labels = prediction.postprocess(volume, voxel_ml, tissues)
    # Back to the order of the rows, without the places of slices that are missing.
    places = (numbers - numbers.min()) // step
    return labels[places]


def count_pixels(predictions: Store, slices: Store) -> pd.DataFrame:
    """True and false positives and negatives of each slice and target, in pixels."""
    parts = []
    for set_name, patient, table, truth, predicted in _patients(predictions, slices, "counting pixels"):
        counts = metrics.count_slices(truth, predicted, slices.description["targets"])
        numbers = table["slice"].to_numpy()
        counts.insert(0, "slice", numbers[counts.pop("position")])
        parts.append(counts.assign(patient=patient, set=set_name))
    return pd.concat(parts, ignore_index=True)


def score_patients(pixel_counts: pd.DataFrame, predictions: Store, slices: Store) -> pd.DataFrame:
    """Scores of each patient's volume, its confidence, and surface distances where the slices make a volume.

    Returns: rows `set`, `patient`, `target`, `metric`, `value`.
    """
    parts = []
    for set_name, counts in pixel_counts.groupby("set"):
        parts.append(metrics.score_patients(counts).assign(set=set_name))
    for set_name, patient, table, truth, predicted in _patients(predictions, slices, "scoring"):
        surfaces = _score_surfaces(table, truth, predicted, slices)
        confidence = _score_confidence(table, predicted, predictions, slices)
        parts += [scores.assign(set=set_name, patient=patient) for scores in (surfaces, confidence)]
    return pd.concat(parts, ignore_index=True)[["set", "patient", "target", "metric", "value"]]


def _patients(
    predictions: Store,
    slices: Store,
    label: str,
) -> Iterator[tuple[str, str, pd.DataFrame, np.ndarray, np.ndarray]]:
    """Set, name, rows of the predictions, true and predicted labels of each predicted patient."""
    require_made_from(predictions, slices)
    groups = list(predictions.rows.groupby(["set", "patient"], sort=True))
    for (set_name, patient), table in track(groups, f"{label} of {predictions.description['network']}"):
        (truth,) = slices.read(table["row"].to_numpy(), "labels")
        (predicted,) = predictions.read(table.index.to_numpy(), "predicted")
        yield set_name, patient, table, truth, predicted


def _score_confidence(table: pd.DataFrame, predicted: np.ndarray, predictions: Store, slices: Store) -> pd.DataFrame:
    (probability,) = predictions.read(table.index.to_numpy(), "probability")
    confidence = soft_dice_confidence(np.moveaxis(probability, 1, 0), predicted, slices.description["targets"])
    return pd.DataFrame({"target": list(confidence), "metric": CONFIDENCE, "value": list(confidence.values())})


def _score_surfaces(table: pd.DataFrame, truth: np.ndarray, predicted: np.ndarray, slices: Store) -> pd.DataFrame:
    targets = slices.description["targets"]
    numbers = table["slice"].to_numpy()
    sizes = slices.rows.loc[table["row"].iloc[0], ["slice_mm", "row_mm", "column_mm"]]
    slice_mm, row_mm, column_mm = sizes.astype(float)
    true_volume = to_volume(truth, numbers, slice_mm)
    predicted_volume = to_volume(predicted, numbers, slice_mm)
    if true_volume is None or predicted_volume is None:
        pairs = product(targets, ("hd95_mm", "surface_dice"))
        # Rows of NaN: every patient has every metric, and the mean leaves them out.
        rows = [(target, metric, np.nan) for target, metric in pairs]
        return pd.DataFrame(rows, columns=["target", "metric", "value"])
    true_labels, step = true_volume
    predicted_labels, _ = predicted_volume
    spacing = (slice_mm * step, row_mm, column_mm)
    return score_surfaces(true_labels, predicted_labels, spacing, targets)


def summarise_scores(
    patient_scores: pd.DataFrame,
    pixel_counts: pd.DataFrame,
    slices: Store,
    network: TrainedNetwork,
) -> pd.DataFrame:
    """Means in three protocols with intervals over patients: a row for each set, protocol, target and metric."""
    tissues = slices.description["tissues"]
    parts = []
    for set_name, scores in patient_scores.groupby("set", sort=False):
        counts = pixel_counts[pixel_counts["set"] == set_name]
        tables = [
            metrics.summarise_patients(scores),
            metrics.summarise_slices(counts, tissues),
            metrics.summarise_batches(counts, tissues),
        ]
        # pandas warns of empty tables, such as that of slices with tumour where none has any.
        table = pd.concat([table for table in tables if len(table)], ignore_index=True)
        _log_scores(f"{network.experiment}, {set_name}", tables[0], counts)
        parts.append(table.assign(set=set_name))
    summary = pd.concat(parts, ignore_index=True)
    summary = summary.assign(network=network.experiment, parameters=network.parameters)
    return summary[["network", "parameters", "set", *metrics.SUMMARY]]


def _log_scores(what: str, volumes: pd.DataFrame, counts: pd.DataFrame) -> None:
    """A line with the mean Dice of each target, and a warning of each that is there but never predicted."""
    dice = volumes[volumes["metric"] == "dice"]
    words = ", ".join(f"{row.target} {row.mean:.3f}" for row in dice.itertuples())
    logger.info("%s: mean volume Dice of %d patients: %s", what, dice["patients"].max(), words)
    pixels = counts.groupby("target", sort=False)[["tp", "fp", "fn"]].sum()
    warn_of_missed(what, pixels.index[(pixels["tp"] + pixels["fp"] == 0) & (pixels["fn"] > 0)])


def measure_cost(
    network: TrainedNetwork,
    slices: Store,
    training_log: pd.DataFrame,
    engine: EngineSettings,
) -> pd.DataFrame:
    """One row of costs: parameters, GFLOPs of a slice (exact), slices a second on this device, training seconds."""
    from brain_tumor.training.cost import count_gflops, measure_seconds, tabulate_cost
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.segmentation.prediction import predict_probabilities

    device = choose_device(engine)
    module = network.member(0)
    gflops = count_gflops(module, 1, network.sizes["in_channels"], *find_brain_crop(slices).shape)
    rows = np.arange(min(COST_SLICES, len(slices.rows)))
    seconds = measure_seconds(lambda: predict_probabilities(module, slices, rows, device, tta_flip=False))
    speed = {"slices_a_second": len(rows) / seconds}
    return tabulate_cost(network, training_log, device, gflops={"gflops_a_slice": gflops}, speed=speed)


def draw_results(
    network: TrainedNetwork,
    predictions: Store,
    slices: Store,
    patient_scores: pd.DataFrame,
    training_log: pd.DataFrame,
) -> Figures:
    """Figures: learning curves, scores by patient, and the best, the median and the worst patient."""
    from brain_tumor.figures.segmentation import choose_patients, draw_curves, draw_examples, draw_scores

    about = slices.description
    require_made_from(predictions, slices)
    require_made_by(predictions, network)
    mark = ", SIMULATED" if about["simulated"] else ""
    title = f"{name_network(network.experiment)}{mark}"
    scores = patient_scores[patient_scores["set"] == TEST]
    ranking = rank_patients(scores)
    chosen = choose_patients(ranking.to_dict())
    examples = []
    for patient, place in chosen.items():
        caption = f"{place}: {patient}\n{ranking.name} Dice {ranking[patient]:.3f}"
        examples.append(_example(patient, caption, predictions, slices))
    epochs = [kept["epoch"] for kept in network.description["kept"]]
    shown = f"{title}: best, median and worst test patient"
    return {
        "1_curves": draw_curves(training_log, epochs, f"{title}: training"),
        "2_scores": draw_scores(scores, f"{title}: test patients"),
        "3_patients": draw_examples(examples, about["modalities"], about["tissues"], shown),
    }


def rank_patients(scores: pd.DataFrame) -> pd.Series:
    """Each patient's Dice of the headline target."""
    dice = scores[scores["metric"] == "dice"]
    by_target = dice.pivot(index="patient", columns="target", values="value")
    return by_target[metrics.choose_headline(scores["target"])]


def _example(patient: str, title: str, predictions: Store, slices: Store) -> Any:
    """The patient's slice with most true tumour; without any, the slice with most predicted tumour."""
    from brain_tumor.figures.segmentation import Example

    table = predictions.rows
    table = table[(table["patient"] == patient) & (table["set"] == TEST)]
    image, truth = slices.read(table["row"].to_numpy(), "image", "labels")
    probability, predicted = predictions.read(table.index.to_numpy(), "probability", "predicted")
    true_pixels = (truth > 0).sum((1, 2))
    predicted_pixels = (predicted > 0).sum((1, 2))
    # `lexsort` sorts by its last key first.
    k = int(np.lexsort((predicted_pixels, true_pixels))[-1])
    caption = f"{title}\nslice {table['slice'].iloc[k]}"
    # Matplotlib has no fp16, in which slices are stored.
    shown = image[k].astype(np.float32)
    return Example(caption, shown, truth[k], metrics.add_tissues(probability)[k], predicted[k])
