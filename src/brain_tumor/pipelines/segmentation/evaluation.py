"""Nodes that evaluate one network on the test patients. torch is imported when they run: it takes seconds."""

from collections.abc import Iterator
from time import perf_counter

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.data.common.parallel import track
from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.store import Chunk, Store, StoreContent, require_made_from
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.figures.palette import name_network
from brain_tumor.figures.segmentation import Example, choose_patients, draw_curves, draw_examples, draw_scores
from brain_tumor.metrics import segmentation as metrics
from brain_tumor.metrics.surfaces import score_surfaces, to_volume
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.training.settings import EngineSettings, PredictionSettings

CROSS_VALIDATION = "cross-validation"
"""The set of patients that were each predicted by the one member of an ensemble that was not trained on them."""


def predict_patients(
    network: TrainedNetwork, slices: Store, splits: pd.DataFrame, prediction: PredictionSettings, engine: EngineSettings
) -> StoreContent:
    """Probability of each tissue, and the labels found, in every slice of the test patients.

    After cross-validation also of all others, each by the member that has not seen them.

    Raises:
        ValueError: if the network learned from a test patient without saying so, or from slices of another kind.
    """
    require_unseen(network, slices, splits)
    about = slices.description
    description = {"network": network.experiment, "tissues": about["tissues"], "simulated": about["simulated"]}
    description |= {"made_from": about["fingerprint"], "weights": network.digest}
    return StoreContent(description | prediction.model_dump(), _predict(network, slices, splits, prediction, engine))


def require_unseen(network: TrainedNetwork, slices: Store, splits: pd.DataFrame) -> None:
    """Refuse a network of an earlier preparation or earlier sets: what is tested on must not be what was learned from.

    Patients whom the weights that it started from know are reported with its scores, and let pass.

    Raises:
        ValueError: naming what differs.
    """
    about = network.description
    again = "train it again, such as with `kedro run --pipelines segmentation`"
    for entry in ("modalities", "tissues", "slice_size"):
        if about[entry] != slices.description[entry]:
            raise ValueError(
                f"{network.experiment} learned from slices whose {entry} was {about[entry]}, but it is "
                f"{slices.description[entry]} now; {again}"
            )
    reported = (about.get("initialised_from") or {}).get("scored") or []
    tested = set(splits.loc[splits["split"] == TEST, "patient"])
    met = (
        sorted(tested & set(about.get("patients", [])) - set(reported))
        if about["simulated"] == slices.description["simulated"]
        else []
    )
    if met:
        names = ", ".join(met[:5]) + (", ..." if len(met) > 5 else "")
        raise ValueError(
            f"{network.experiment} learned from {len(met)} of the {len(tested)} test patients ({names}): "
            f"the sets were drawn anew since; {again}"
        )


def _predict(
    network: TrainedNetwork, slices: Store, splits: pd.DataFrame, prediction: PredictionSettings, engine: EngineSettings
) -> Iterator[Chunk]:
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.segmentation.prediction import predict_probabilities

    table, tissues, device = slices.rows, slices.description["tissues"], choose_device(engine)
    parts = [(TEST, network.module(), splits.loc[splits["split"] == TEST, "patient"])]
    if len(network.members) > 1:
        parts += [
            (CROSS_VALIDATION, network.member(k), patients)
            for k, patients in enumerate(network.description["validation_patients"])
        ]
    for name, module, patients in parts:
        groups = table[table["patient"].isin(patients)].groupby("patient", sort=False).groups
        for patient, rows in track(groups.items(), f"predicting with {network.experiment}"):
            own = table.loc[rows]
            probability = np.concatenate(
                list(predict_probabilities(module, slices, rows.to_numpy(), device, tta_flip=prediction.tta_flip))
            )
            found = _tidy(metrics.to_labels(probability), own, prediction, tissues)
            same = {
                key: np.array([value] * len(own), dtype=object) for key, value in (("patient", patient), ("set", name))
            }
            yield {
                "probability": probability,
                "found": found,
                "row": rows.to_numpy(),
                "slice": own["slice"].to_numpy(),
                **same,
            }


def _tidy(found: np.ndarray, rows: pd.DataFrame, prediction: PredictionSettings, tissues: list[str]) -> np.ndarray:
    """The labels of a patient's slices, tidied where the slices make a volume."""
    numbers = rows["slice"].to_numpy()
    row_mm, column_mm, slice_mm = (float(rows[name].iloc[0]) for name in ("row_mm", "column_mm", "slice_mm"))
    volume = to_volume(found, numbers, slice_mm)
    if volume is None:
        return found
    tidied = prediction.postprocess(volume[0], row_mm * column_mm * slice_mm * volume[1] / 1000, tissues)
    return tidied[(numbers - numbers.min()) // volume[1]]


def count_pixels(predictions: Store, slices: Store) -> pd.DataFrame:
    """True and false positives and negatives in each slice, for each target."""
    parts = []
    for kind, patient, table, truth, found in _patients(predictions, slices, "counting pixels"):
        counts = metrics.count_slices(truth, found, slices.description["targets"])
        counts.insert(0, "slice", table["slice"].to_numpy()[counts.pop("position")])
        parts.append(counts.assign(patient=patient, set=kind))
    return pd.concat(parts, ignore_index=True)


def score_patients(pixel_counts: pd.DataFrame, predictions: Store, slices: Store) -> pd.DataFrame:
    """Scores of each patient's volume, and distances between surfaces where his slices make one.

    Rows `set`, `patient`, `target`, `metric`, `value`.
    """
    parts = [metrics.score_patients(counts).assign(set=kind) for kind, counts in pixel_counts.groupby("set")]
    for kind, patient, table, truth, found in _patients(predictions, slices, "scoring"):
        parts.append(_score_surfaces(table, truth, found, slices).assign(set=kind, patient=patient))
    return pd.concat(parts, ignore_index=True)[["set", "patient", "target", "metric", "value"]]


def _patients(
    predictions: Store, slices: Store, label: str
) -> Iterator[tuple[str, str, pd.DataFrame, np.ndarray, np.ndarray]]:
    """Each patient predicted: set, name, rows of the predictions, and the labels there and found in them."""
    require_made_from(predictions, slices)
    groups = list(predictions.rows.groupby(["set", "patient"], sort=True))
    for (kind, patient), table in track(groups, f"{label} of {predictions.description['network']}"):
        (labels,) = slices.read(table["row"].to_numpy(), "labels")
        (found,) = predictions.read(table.index.to_numpy(), "found")
        yield kind, patient, table, labels, found


def _score_surfaces(table: pd.DataFrame, labels: np.ndarray, predicted: np.ndarray, slices: Store) -> pd.DataFrame:
    targets, numbers = slices.description["targets"], table["slice"].to_numpy()
    slice_mm, row_mm, column_mm = slices.rows.loc[table["row"].iloc[0], ["slice_mm", "row_mm", "column_mm"]].astype(
        float
    )
    truth, found = to_volume(labels, numbers, slice_mm), to_volume(predicted, numbers, slice_mm)
    if truth is None or found is None:
        rows = [(target, metric, np.nan) for target in targets for metric in ("hd95_mm", "surface_dice")]
        return pd.DataFrame(rows, columns=["target", "metric", "value"])
    return score_surfaces(truth[0], found[0], (slice_mm * truth[1], row_mm, column_mm), targets)


def summarise_scores(
    patient_scores: pd.DataFrame, pixel_counts: pd.DataFrame, slices: Store, network: TrainedNetwork
) -> pd.DataFrame:
    """Means in three protocols with intervals over patients: a row for each set, protocol, target and metric."""
    tissues = slices.description["tissues"]
    parts = []
    for kind, scores in patient_scores.groupby("set", sort=False):
        counts = pixel_counts[pixel_counts["set"] == kind]
        tables = [
            metrics.summarise_patients(scores),
            metrics.summarise_slices(counts, tissues),
            metrics.summarise_batches(counts, tissues),
        ]
        parts.append(pd.concat([table for table in tables if len(table)], ignore_index=True).assign(set=kind))
    summary = pd.concat(parts, ignore_index=True)
    return summary.assign(network=network.experiment, parameters=network.parameters)[
        ["network", "parameters", "set", *metrics.SUMMARY]
    ]


def measure_cost(
    network: TrainedNetwork, slices: Store, training_log: pd.DataFrame, engine: EngineSettings
) -> pd.DataFrame:
    """What the network costs: parameters, operations of a forward pass of one slice (exact), slices a second predicted on this device, seconds of training."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from brain_tumor.training.device import choose_device
    from brain_tumor.training.segmentation.prediction import predict_probabilities

    device, module = choose_device(engine), network.member(0)
    with FlopCounterMode(
        display=False
    ) as counter:  # with gradients: without them attention takes a way that isn't counted
        module(torch.zeros(1, network.sizes["in_channels"], *find_brain_crop(slices).shape))
    rows = np.arange(min(64, len(slices.rows)))
    seconds = []
    for _ in range(3):
        start = perf_counter()
        for _ in predict_probabilities(module, slices, rows, device, tta_flip=False):
            pass
        seconds.append(perf_counter() - start)
    row = {
        "network": network.experiment,
        "parameters": network.parameters,
        "gflops_a_slice": counter.get_total_flops() / 1e9,
    }
    row |= {
        "slices_a_second": len(rows) / min(seconds),
        "training_seconds": training_log["seconds"].sum(),
        "device": str(device),
    }
    return pd.DataFrame([row])


def draw_results(
    network: TrainedNetwork, predictions: Store, slices: Store, patient_scores: pd.DataFrame, training_log: pd.DataFrame
) -> dict[str, Figure]:
    """Learning curves, scores by patient, and the best, the median and the worst patient."""
    about = slices.description
    require_made_from(predictions, slices)
    require_made_by(predictions, network)
    title = f"{name_network(network.experiment)}{', SIMULATED' if about['simulated'] else ''}"
    scores = patient_scores[patient_scores["set"] == TEST]
    ranking = _ranking(scores)
    chosen = choose_patients(ranking.to_dict())
    examples = [
        _example(patient, f"{kind}: {patient}\n{ranking.name} Dice {ranking[patient]:.3f}", predictions, slices)
        for patient, kind in chosen.items()
    ]
    return {
        "1_curves": draw_curves(
            training_log, [kept["epoch"] for kept in network.description["kept"]], f"{title}: training"
        ),
        "2_scores": draw_scores(scores, f"{title}: test patients"),
        "3_patients": draw_examples(
            examples, about["modalities"], about["tissues"], f"{title}: best, median and worst test patient"
        ),
    }


def _ranking(scores: pd.DataFrame) -> pd.Series:
    """Dice of each patient by which patients are ranked."""
    dice = scores[scores["metric"] == "dice"].pivot(index="patient", columns="target", values="value")
    return dice[metrics.choose_headline(scores["target"])]


def _example(patient: str, title: str, predictions: Store, slices: Store) -> Example:
    """The slice with most tumour; where there is none, the one where most was found."""
    table = predictions.rows
    table = table[(table["patient"] == patient) & (table["set"] == TEST)]
    image, truth = slices.read(table["row"].to_numpy(), "image", "labels")
    probability, predicted = predictions.read(table.index.to_numpy(), "probability", "found")
    k = int(np.lexsort(((predicted > 0).sum((1, 2)), (truth > 0).sum((1, 2))))[-1])
    return Example(
        f"{title}\nslice {table['slice'].iloc[k]}", image[k].astype(np.float32), truth[k], probability[k], predicted[k]
    )
