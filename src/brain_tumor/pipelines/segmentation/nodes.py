"""Nodes of segmentation. Those that compute with torch import it when they run: it takes seconds."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from brain_tumor.data.split import TEST, TRAIN, VALIDATION
from brain_tumor.data.store import Chunk, Store, StoreContent, fingerprint
from brain_tumor.figures.segmentation import Example, choose_patients, draw_curves, draw_examples, draw_scores
from brain_tumor.metrics.segmentation import VOLUME, score_volume, summarise, to_labels
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.segmentation.report import compose_report
from brain_tumor.training.checkpoints import Checkpoints, code_state
from brain_tumor.training.settings import EngineSettings, ExperimentSettings, PredictionSettings, SegmentationRecipe

logger = logging.getLogger(__name__)


def train_network(
    slices: Store, splits: pd.DataFrame, checkpoints: Checkpoints, experiment: ExperimentSettings, recipe: SegmentationRecipe, engine: EngineSettings
) -> tuple[TrainedNetwork, pd.DataFrame]:
    """The network with the weights that validated best, and the log of its training; goes on from a checkpoint of the same settings and data."""
    import lightning

    from brain_tumor.networks import build
    from brain_tumor.training.batches import Rows
    from brain_tumor.training.fit import Job, fit
    from brain_tumor.training.tasks import MONITOR, SegmentationTask

    about = slices.description
    sizes = {"in_channels": len(about["modalities"]), "out_channels": len(about["tissues"])} | experiment.sizes
    _require_match(sizes, about)
    train, validation = (Rows(slices, _rows(slices, splits, name)) for name in (TRAIN, VALIDATION))
    logger.info("%s: %d slices to train on, %d to validate on", experiment.network, len(train), len(validation))
    settings = [experiment.network, sizes, recipe.model_dump(), engine.seed, engine.precision, code_state()]
    mark = fingerprint(settings, about, train.rows.tolist(), validation.rows.tolist())
    lightning.seed_everything(engine.seed, verbose=False)
    task = SegmentationTask(build(experiment.network, **sizes), about["targets"], len(about["tissues"]), recipe, engine.seed)
    fitted = fit(Job(task, train, validation, MONITOR, recipe, engine, checkpoints.of(mark)))
    description = about | {"recipe": recipe.model_dump(), "seed": engine.seed, "best": fitted.best}
    return TrainedNetwork(experiment.network, sizes, description, fitted.weights), fitted.log


def _require_match(sizes: dict[str, int], about: dict[str, Any]) -> None:
    for size, entry in (("in_channels", "modalities"), ("out_channels", "tissues")):
        if sizes[size] != len(about[entry]):
            raise ValueError(f"the store has {len(about[entry])} {entry} ({', '.join(about[entry])}), but {size} is {sizes[size]}; leave {size} out of sizes")


def predict_patients(network: TrainedNetwork, slices: Store, splits: pd.DataFrame, prediction: PredictionSettings, engine: EngineSettings) -> StoreContent:
    """Probability of each tissue in every slice of the test patients."""
    rows = _rows(slices, splits, TEST)
    description = {"network": network.name, "split": TEST, "tissues": slices.description["tissues"], "simulated": slices.description["simulated"]}
    return StoreContent(description, _predict(network, slices, rows, prediction, engine))


def _predict(network: TrainedNetwork, slices: Store, rows: np.ndarray, prediction: PredictionSettings, engine: EngineSettings) -> Iterator[Chunk]:
    table, start = slices.rows, 0
    for probability in probabilities(network, slices, rows, engine, flips=prediction.flips):
        chosen = rows[start : start + len(probability)]
        patient, number = (table[name].to_numpy()[chosen] for name in ("patient", "slice"))
        yield {"probability": probability, "row": chosen, "patient": patient.astype(object), "slice": number}
        start += len(probability)


def probabilities(
    network: TrainedNetwork, slices: Store, rows: np.ndarray, engine: EngineSettings, *, flips: bool, batch_size: int = 32
) -> Iterator[UInt8[np.ndarray, "b k h w"]]:
    """Probability of each tissue in steps of 1/255, batch after batch of the rows.

    Args:
        flips: take the mean with that of the slice mirrored left and right.
    """
    import torch

    from brain_tumor.training.device import choose_device

    device = choose_device(engine)
    module = device.place(network.module())
    for start in tqdm(range(0, len(rows), batch_size), desc=f"predicting with {network.name}", unit="batch", disable=None):
        image = device.place_batch(torch.from_numpy(slices.read(rows[start : start + batch_size], "image")[0]))
        with torch.inference_mode(), device.autocast():
            probability = module(image).float().sigmoid()
            if flips:
                probability = (probability + module(image.flip(-2)).float().sigmoid().flip(-2)) / 2
        yield (probability * 255).round().to(torch.uint8).cpu().contiguous().numpy()


def score_patients(predictions: Store, slices: Store) -> pd.DataFrame:
    """Scores of each test patient: rows `patient`, `target`, `metric`, `value`."""
    targets = slices.description["targets"]
    parts = []
    for patient, table in predictions.rows.groupby("patient", sort=True):
        (labels,) = slices.read(table["row"].to_numpy(), "labels")
        (probability,) = predictions.read(table.index.to_numpy(), "probability")
        scores = score_volume(labels, to_labels(probability), targets)
        parts.append(scores.assign(patient=patient)[["patient", "target", "metric", "value"]])
    return pd.concat(parts, ignore_index=True)


def summarise_scores(patient_scores: pd.DataFrame, network: TrainedNetwork) -> pd.DataFrame:
    """Mean, median and interval over patients, a row for each target and metric."""
    summary = summarise(patient_scores)
    summary.insert(0, "network", network.name)
    summary.insert(1, "parameters", network.parameters)
    summary.insert(2, "protocol", VOLUME)
    return summary


def draw_results(network: TrainedNetwork, predictions: Store, slices: Store, patient_scores: pd.DataFrame, training_log: pd.DataFrame) -> dict[str, Figure]:
    """Learning curves, scores by patient, and the best, the median and the worst patient."""
    about = slices.description
    title = f"{network.name}{', SIMULATED' if about['simulated'] else ''}"
    ranking = _ranking(patient_scores)
    chosen = choose_patients(ranking.to_dict())
    examples = [_example(patient, f"{kind}: {patient}\n{ranking.name} Dice {ranking[patient]:.3f}", predictions, slices) for patient, kind in chosen.items()]
    return {
        "1_curves": draw_curves(training_log, f"{title}: training"),
        "2_scores": draw_scores(patient_scores, f"{title}: test patients"),
        "3_patients": draw_examples(examples, about["modalities"], about["tissues"], f"{title}: best, median and worst test patient"),
    }


def _ranking(scores: pd.DataFrame) -> pd.Series:
    """Dice of each patient by which patients are ranked: the whole tumour's where it is declared, else the last target's."""
    dice = scores[scores["metric"] == "dice"].pivot(index="patient", columns="target", values="value")
    return dice["WT"] if "WT" in dice else dice[scores["target"].iloc[-1]]


def _example(patient: str, title: str, predictions: Store, slices: Store) -> Example:
    """The slice with most tumour; where there is none, the one where most was found."""
    table = predictions.rows
    table = table[table["patient"] == patient]
    image, truth = slices.read(table["row"].to_numpy(), "image", "labels")
    (probability,) = predictions.read(table.index.to_numpy(), "probability")
    predicted = to_labels(probability)
    k = int(np.lexsort(((predicted > 0).sum((1, 2)), (truth > 0).sum((1, 2))))[-1])
    return Example(f"{title}\nslice {table['slice'].iloc[k]}", image[k].astype(np.float32), truth[k], predicted[k])


def compare_networks(*summaries: pd.DataFrame) -> pd.DataFrame:
    """All networks in one tidy table."""
    return pd.concat(summaries, ignore_index=True)


def write_report(comparison: pd.DataFrame, index: pd.DataFrame, splits: pd.DataFrame, slices: Store, *results: pd.DataFrame | dict[str, bytes]) -> str:
    """The report as one HTML page. `results`: the patients' scores of each network, then the figures of each."""
    networks = list(comparison["network"].unique())
    scores, figures = dict(zip(networks, results, strict=False)), dict(zip(networks, results[len(networks) :], strict=True))
    return compose_report(comparison, index, splits, slices.description, scores, figures)


def _rows(slices: Store, splits: pd.DataFrame, name: str) -> np.ndarray:
    """Rows of the store that belong to the patients of one set."""
    patients = splits.loc[splits["split"] == name, "patient"]
    return np.flatnonzero(slices.rows["patient"].isin(patients))
