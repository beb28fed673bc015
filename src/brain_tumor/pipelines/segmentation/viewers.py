"""The node that makes pages of test patients: all slices, reference mask and prediction, to be looked at."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.store import Store, require_made_from
from brain_tumor.figures.palette import name_network
from brain_tumor.metrics.surfaces import to_volume
from brain_tumor.networks.trained import TrainedNetwork, require_made_by
from brain_tumor.pipelines.segmentation.evaluation import rank_patients
from brain_tumor.reporting.viewer import ViewedPatient, ViewerSettings, compose_viewer


def draw_viewers(
    network: TrainedNetwork,
    predictions: Store,
    slices: Store,
    patient_scores: pd.DataFrame,
    viewer: ViewerSettings,
) -> Iterator[tuple[str, str]]:
    """A page for the best, the median and the worst test patient: its name, and the HTML.

    Patients whose slices make no volume get none.
    """
    from brain_tumor.figures.segmentation import choose_patients

    require_made_from(predictions, slices)
    require_made_by(predictions, network)
    scores = patient_scores[patient_scores["set"] == TEST]
    chosen = choose_patients(rank_patients(scores).to_dict()) if viewer.patients else {}
    dice = scores[scores["metric"] == "dice"]
    return _compose(network, predictions, slices, dice, chosen)


def _compose(
    network: TrainedNetwork,
    predictions: Store,
    slices: Store,
    dice: pd.DataFrame,
    chosen: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    for patient in chosen:
        own = dice[dice["patient"] == patient]
        viewed = _read(patient, network, predictions, slices, dict(zip(own["target"], own["value"], strict=True)))
        if viewed is not None:
            yield patient, compose_viewer(viewed)


def _read(
    patient: str,
    network: TrainedNetwork,
    predictions: Store,
    slices: Store,
    dice: dict[str, float],
) -> ViewedPatient | None:
    about = slices.description
    table = predictions.rows
    table = table[(table["patient"] == patient) & (table["set"] == TEST)]
    numbers = table["slice"].to_numpy()
    sizes = slices.rows.loc[table["row"].iloc[0], ["row_mm", "column_mm", "slice_mm"]]
    row_mm, column_mm, slice_mm = sizes.astype(float)
    image, truth = slices.read(table["row"].to_numpy(), "image", "labels")
    (predicted,) = predictions.read(table.index.to_numpy(), "predicted")
    stacked = to_volume(predicted, numbers, slice_mm)
    reference = to_volume(truth, numbers, slice_mm)
    if stacked is None or reference is None:
        return None
    labels, step = stacked
    # Slices that are missing stay empty.
    volume = np.zeros((image.shape[1], *image.shape[2:], len(labels)), np.float32)
    places = (numbers - numbers.min()) // step
    volume[..., places] = np.moveaxis(image, 0, -1)
    return ViewedPatient(
        patient,
        name_network(network.experiment),
        volume,
        about["modalities"],
        np.moveaxis(labels, 0, -1),
        np.moveaxis(reference[0], 0, -1),
        # A store has no positions; its axes are L, P, S.
        np.diag([-row_mm, -column_mm, slice_mm * step, 1.0]),
        about["targets"],
        len(about["tissues"]),
        dice,
        first_slice=int(numbers.min()),
        slice_step=step,
        simulated=about["simulated"],
    )
