"""Nodes of segmentation. Those that compute with torch import it when they run: it takes seconds."""

import logging
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.data.split import TEST, VALIDATION
from brain_tumor.data.store import Chunk, Store, StoreContent, fingerprint
from brain_tumor.figures.segmentation import Example, choose_patients, draw_curves, draw_examples, draw_scores
from brain_tumor.figures.segmentation_comparison import draw_costs, draw_parameters, draw_targets
from brain_tumor.metrics import segmentation as metrics
from brain_tumor.metrics.surfaces import score_surfaces, to_volume
from brain_tumor.networks.trained import TrainedNetwork, read_network
from brain_tumor.pipelines.segmentation.report import compose_report
from brain_tumor.training.checkpoints import Checkpoints, code_state
from brain_tumor.training.settings import EngineSettings, ExperimentSettings, PredictionSettings, SegmentationRecipe

logger = logging.getLogger(__name__)

CROSS_VALIDATION = "cross-validation"
"""The set of patients that were each predicted by the one member of an ensemble that was not trained on them."""


def train_network(
    slices: Store,
    splits: pd.DataFrame,
    checkpoints: Checkpoints,
    experiment: ExperimentSettings,
    recipe: SegmentationRecipe,
    engine: EngineSettings,
    folds: int,
    initial_weights: str | None,
) -> tuple[TrainedNetwork, pd.DataFrame, StoreContent]:
    """The trained network, the log of its training, and what it saw in one slice after each epoch.

    With several folds one network for each; they answer together. Goes on from a checkpoint of the same settings and data.
    """
    about, rows = slices.description, slices.rows
    sizes = {"in_channels": len(about["modalities"]), "out_channels": len(about["tissues"])} | experiment.sizes
    _require_match(sizes, about)
    initial = _read_initial(initial_weights, experiment.network, sizes)
    recipe = recipe.model_copy(update={"epochs": experiment.epochs or recipe.epochs})
    settings = [experiment.network, sizes, recipe.model_dump(), engine.seed, engine.precision, initial_weights, code_state()]
    fitted, marks, held_out = [], [], _validation_patients(splits, folds)
    for number, patients in enumerate(held_out):
        train = np.flatnonzero(rows["patient"].isin(splits.loc[splits["split"] != TEST, "patient"]) & ~rows["patient"].isin(patients))
        validation = np.flatnonzero(rows["patient"].isin(patients))
        _require_tumour(rows, train, validation)
        words = f", fold {number + 1} of {folds}" if folds > 1 else ""
        logger.info("%s%s: %d slices to train on, %d to validate on", experiment.network, words, len(train), len(validation))
        marks.append(fingerprint(settings, about, train.tolist(), validation.tolist()))
        fitted.append(_fit(slices, train, validation, experiment.network, sizes, initial, recipe, engine, checkpoints.of(marks[-1])))
    description = about | {"recipe": recipe.model_dump(), "seed": engine.seed, "kept": [f.kept for f in fitted], "validation_patients": held_out}
    log = pd.concat([f.log.assign(fold=k) for k, f in enumerate(fitted)], ignore_index=True) if folds > 1 else fitted[0].log
    network = TrainedNetwork(experiment.network, sizes, description, tuple(f.weights for f in fitted))
    example = _fullest(rows, np.flatnonzero(rows["patient"].isin(held_out[0])))
    return network, log, _history(fitted[0].snapshots, about["tissues"], example, marks[0])


def _fit(
    slices: Store,
    train: np.ndarray,
    validation: np.ndarray,
    name: str,
    sizes: dict[str, int],
    initial: TrainedNetwork | None,
    recipe: SegmentationRecipe,
    engine: EngineSettings,
    checkpoints: Checkpoints,
) -> Any:
    import lightning
    import torch

    from brain_tumor.networks import build
    from brain_tumor.training.batches import Rows
    from brain_tumor.training.fit import Job, fit
    from brain_tumor.training.tasks import MONITOR, SegmentationTask

    about = slices.description
    lightning.seed_everything(engine.seed, verbose=False)
    network = build(name, **sizes)
    if initial:
        network.load_state_dict(initial.members[0])
    (example,) = slices.read(np.array([_fullest(slices.rows, validation)]), "image")
    task = SegmentationTask(network, about["targets"], len(about["tissues"]), recipe, engine.seed, torch.from_numpy(example[0]).float())
    return fit(Job(task, Rows(slices, train), Rows(slices, validation), MONITOR, recipe, engine, checkpoints))


def _require_match(sizes: dict[str, int], about: dict[str, Any]) -> None:
    for size, entry in (("in_channels", "modalities"), ("out_channels", "tissues")):
        if sizes[size] != len(about[entry]):
            raise ValueError(f"the store has {len(about[entry])} {entry} ({', '.join(about[entry])}), but {size} is {sizes[size]}; leave {size} out of sizes")


def _read_initial(path: str | None, name: str, sizes: dict[str, int]) -> TrainedNetwork | None:
    """The network to start from; None without a path, or if it is another network's."""
    if not path:
        return None
    found = read_network(Path(path))
    if found.name != name:
        logger.warning("%s holds a %s; %s starts from random weights", path, found.name, name)
        return None
    if found.sizes != sizes:
        raise ValueError(f"the network in {path} has sizes {found.sizes}, but {name} is built with {sizes}; set `sizes` to those of the file")
    return found


def _validation_patients(splits: pd.DataFrame, folds: int) -> list[list[str]]:
    """Patients that validate each member: those of the split, or for cross-validation each fold of all that are not for testing."""
    if folds == 1:
        return [splits.loc[splits["split"] == VALIDATION, "patient"].tolist()]
    available = splits["fold"].nunique()
    if folds != available:
        raise ValueError(f"segmentation.folds is {folds}, but patients are divided into {available} folds; set data_segmentation.split.folds to {folds} too")
    learning = splits[splits["split"] != TEST]
    return [learning.loc[learning["fold"] == k, "patient"].tolist() for k in range(folds)]


def _require_tumour(rows: pd.DataFrame, train: np.ndarray, validation: np.ndarray) -> None:
    if not rows["tumour_pixels"].iloc[train].any():
        raise ValueError(f"none of the {len(train)} slices to train on shows tumour, so there is nothing to learn; give scans of more patients, with masks")
    if not rows["tumour_pixels"].iloc[validation].any():
        logger.warning("none of the %d validation slices shows tumour: the best epoch is the one that finds nothing there", len(validation))


def _fullest(rows: pd.DataFrame, chosen: np.ndarray) -> int:
    """The row with most tumour."""
    return int(chosen[rows["tumour_pixels"].to_numpy()[chosen].argmax()])


def _history(snapshots: list[dict[str, Any]], tissues: list[str], row: int, mark: str) -> StoreContent:
    """Probabilities and attention maps of one slice, a row for each epoch, all at the size of the slice."""
    from torch.nn.functional import interpolate

    def full(maps: Any) -> np.ndarray:
        return interpolate(maps[None].float(), size=snapshots[0]["probability"].shape[-2:], mode="bilinear", align_corners=True)[0].half().numpy()

    maps = np.stack([np.concatenate([full(value) for value in snapshot.values()]) for snapshot in snapshots])
    names = [*tissues, *(name for name in snapshots[0] if name != "probability")]
    return StoreContent({"names": names, "row": row, "fingerprint": mark}, iter([{"epoch": np.arange(1, len(maps) + 1), "maps": maps}]))


def predict_patients(network: TrainedNetwork, slices: Store, splits: pd.DataFrame, prediction: PredictionSettings, engine: EngineSettings) -> StoreContent:
    """Probability of each tissue in every slice of the test patients; after cross-validation also of all others, each by the member that has not seen them."""
    about = slices.description
    description = {"network": network.name, "tissues": about["tissues"], "simulated": about["simulated"], "flips": prediction.flips}
    return StoreContent(description, _predict(network, slices, splits, prediction, engine))


def _predict(network: TrainedNetwork, slices: Store, splits: pd.DataFrame, prediction: PredictionSettings, engine: EngineSettings) -> Iterator[Chunk]:
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.predict import find_probabilities

    table, device = slices.rows, choose_device(engine)
    parts = [(TEST, network.module(), splits.loc[splits["split"] == TEST, "patient"])]
    if len(network.members) > 1:
        parts += [(CROSS_VALIDATION, network.member(k), patients) for k, patients in enumerate(network.description["validation_patients"])]
    for name, module, patients in parts:
        rows, start = np.flatnonzero(table["patient"].isin(patients)), 0
        for probability in find_probabilities(module, slices, rows, device, flips=prediction.flips, name=network.name):
            chosen = rows[start : start + len(probability)]
            patient, number = (table[column].to_numpy()[chosen] for column in ("patient", "slice"))
            kind = np.array([name] * len(chosen), dtype=object)
            yield {"probability": probability, "row": chosen, "patient": patient.astype(object), "slice": number, "set": kind}
            start += len(probability)


def count_pixels(predictions: Store, slices: Store) -> pd.DataFrame:
    """True and false positives and negatives in each slice, for each target."""
    parts = []
    for (kind, patient), table in predictions.rows.groupby(["set", "patient"], sort=True):
        (labels,) = slices.read(table["row"].to_numpy(), "labels")
        (probability,) = predictions.read(table.index.to_numpy(), "probability")
        counts = metrics.count_slices(labels, metrics.to_labels(probability), slices.description["targets"])
        counts.insert(0, "slice", table["slice"].to_numpy()[counts.pop("position")])
        parts.append(counts.assign(patient=patient, set=kind))
    return pd.concat(parts, ignore_index=True)


def score_patients(pixel_counts: pd.DataFrame, predictions: Store, slices: Store) -> pd.DataFrame:
    """Scores of each patient's volume, and distances between surfaces where his slices make one: rows `set`, `patient`, `target`, `metric`, `value`."""
    parts = [metrics.score_patients(counts).assign(set=kind) for kind, counts in pixel_counts.groupby("set")]
    for (kind, patient), table in predictions.rows.groupby(["set", "patient"], sort=True):
        parts.append(_score_surfaces(table, predictions, slices).assign(set=kind, patient=patient))
    return pd.concat(parts, ignore_index=True)[["set", "patient", "target", "metric", "value"]]


def _score_surfaces(table: pd.DataFrame, predictions: Store, slices: Store) -> pd.DataFrame:
    targets = slices.description["targets"]
    (labels,) = slices.read(table["row"].to_numpy(), "labels")
    (probability,) = predictions.read(table.index.to_numpy(), "probability")
    numbers = table["slice"].to_numpy()
    truth, found = to_volume(labels, numbers), to_volume(metrics.to_labels(probability), numbers)
    if truth is None or found is None:
        rows = [(target, metric, np.nan) for target in targets for metric in ("hd95_mm", "surface_dice")]
        return pd.DataFrame(rows, columns=["target", "metric", "value"])
    slice_mm, row_mm, column_mm = slices.rows.loc[table["row"].iloc[0], ["slice_mm", "row_mm", "column_mm"]].astype(float)
    return score_surfaces(truth[0], found[0], (slice_mm * truth[1], row_mm, column_mm), targets)


def summarise_scores(patient_scores: pd.DataFrame, pixel_counts: pd.DataFrame, slices: Store, network: TrainedNetwork) -> pd.DataFrame:
    """Means in three protocols with intervals over patients: a row for each set, protocol, target and metric."""
    tissues = slices.description["tissues"]
    parts = []
    for kind, scores in patient_scores.groupby("set", sort=False):
        counts = pixel_counts[pixel_counts["set"] == kind]
        tables = [metrics.summarise_patients(scores), metrics.summarise_slices(counts, tissues), metrics.summarise_batches(counts, tissues)]
        parts.append(pd.concat([table for table in tables if len(table)], ignore_index=True).assign(set=kind))
    summary = pd.concat(parts, ignore_index=True)
    return summary.assign(network=network.name, parameters=network.parameters)[["network", "parameters", "set", *metrics.SUMMARY]]


def measure_cost(network: TrainedNetwork, slices: Store, training_log: pd.DataFrame, engine: EngineSettings) -> pd.DataFrame:
    """What the network costs: parameters, operations of a forward pass of one slice (exact), slices a second predicted on this device, seconds of training."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from brain_tumor.training.device import choose_device
    from brain_tumor.training.predict import find_probabilities

    device, module = choose_device(engine), network.member(0)
    size = slices.description["slice_size"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, network.sizes["in_channels"], size, size))
    rows = np.arange(min(64, len(slices.rows)))
    seconds = []
    for _ in range(3):
        start = perf_counter()
        for _ in find_probabilities(module, slices, rows, device, flips=False):
            pass
        seconds.append(perf_counter() - start)
    row = {"network": network.name, "parameters": network.parameters, "gflops_a_slice": counter.get_total_flops() / 1e9}
    row |= {"slices_a_second": len(rows) / min(seconds), "training_seconds": training_log["seconds"].sum(), "device": str(device)}
    return pd.DataFrame([row])


def draw_results(network: TrainedNetwork, predictions: Store, slices: Store, patient_scores: pd.DataFrame, training_log: pd.DataFrame) -> dict[str, Figure]:
    """Learning curves, scores by patient, and the best, the median and the worst patient."""
    about = slices.description
    title = f"{network.name}{', SIMULATED' if about['simulated'] else ''}"
    scores = patient_scores[patient_scores["set"] == TEST]
    ranking = _ranking(scores)
    chosen = choose_patients(ranking.to_dict())
    examples = [_example(patient, f"{kind}: {patient}\n{ranking.name} Dice {ranking[patient]:.3f}", predictions, slices) for patient, kind in chosen.items()]
    return {
        "1_curves": draw_curves(training_log, f"{title}: training"),
        "2_scores": draw_scores(scores, f"{title}: test patients"),
        "3_patients": draw_examples(examples, about["modalities"], about["tissues"], f"{title}: best, median and worst test patient"),
    }


def _ranking(scores: pd.DataFrame) -> pd.Series:
    """Dice of each patient by which patients are ranked: the whole tumour's where it is declared, else the last target's."""
    dice = scores[scores["metric"] == "dice"].pivot(index="patient", columns="target", values="value")
    return dice["WT"] if "WT" in dice else dice[scores["target"].iloc[-1]]


def _example(patient: str, title: str, predictions: Store, slices: Store) -> Example:
    """The slice with most tumour; where there is none, the one where most was found."""
    table = predictions.rows
    table = table[(table["patient"] == patient) & (table["set"] == TEST)]
    image, truth = slices.read(table["row"].to_numpy(), "image", "labels")
    (probability,) = predictions.read(table.index.to_numpy(), "probability")
    predicted = metrics.to_labels(probability)
    k = int(np.lexsort(((predicted > 0).sum((1, 2)), (truth > 0).sum((1, 2))))[-1])
    return Example(f"{title}\nslice {table['slice'].iloc[k]}", image[k].astype(np.float32), truth[k], probability[k], predicted[k])


def compare_networks(slices: Store, *results: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Figure]]:
    """All networks in one tidy table; their differences on the same patients; what they cost; figures of both.

    Args:
        results: the summary of each network, then the patients' scores of each, then the cost of each.
    """
    third = len(results) // 3
    comparison, costs = (pd.concat(tables, ignore_index=True) for tables in (results[:third], results[2 * third :]))
    scores = {name: table[table["set"] == TEST] for name, table in zip(comparison["network"].unique(), results[third : 2 * third], strict=True)}
    names = list(scores)
    pairs = permutations(names, 2)
    differences = [metrics.compare_patients(scores[one], scores[other]).assign(network=one, than=other) for one, other in pairs]
    columns = ["network", "than", "target", "metric", "difference", "low", "high", "better", "patients"]
    table = pd.concat(differences, ignore_index=True)[columns] if differences else pd.DataFrame(columns=columns)
    title = "SIMULATED" if slices.description["simulated"] else slices.description["data_set"]
    figures = {
        "1_targets": draw_targets(comparison, title),
        "2_costs": draw_costs(comparison, costs, title),
        "3_parameters": draw_parameters(_count_parameters(names)),
    }
    return comparison, table, costs, figures


def _count_parameters(names: list[str]) -> pd.DataFrame:
    """Parameters of each network by its number of filters."""
    import torch

    from brain_tumor.networks import build

    with torch.device("meta"):
        counts = {name: {n: sum(p.numel() for p in build(name, n_filters=n).parameters()) for n in (8, 16, 32, 64)} for name in names}
    return pd.DataFrame(counts).rename_axis("n_filters")


def write_report(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    costs: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    slices: Store,
    recipe: SegmentationRecipe,
    engine: EngineSettings,
    figures: dict[str, bytes],
    *results: pd.DataFrame | dict[str, bytes],
) -> str:
    """The report as one HTML page.

    Args:
        figures: of the comparison.
        results: the patients' scores of each network, the figures of each, then pairs of what its attention means and the figures of it.
    """
    names = list(comparison["network"].unique())
    scores, drawn = dict(zip(names, results, strict=False)), dict(zip(names, results[len(names) :], strict=False))
    attention = results[2 * len(names) :]
    settings = {"recipe": recipe.model_dump(), "training": engine.model_dump(exclude_none=True)}
    tables = [comparison, differences, costs, index, splits]
    return compose_report(tables, slices.description, settings, figures, scores, drawn, list(zip(attention[::2], attention[1::2], strict=True)))
