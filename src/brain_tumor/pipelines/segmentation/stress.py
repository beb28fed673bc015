"""Nodes of the stress test: trained networks on corrupted slices of the test patients."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from brain_tumor.data.common.parallel import track
from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.data_set import WITHOUT
from brain_tumor.metrics import segmentation as metrics
from brain_tumor.metrics.stress import NONE, summarise_stress
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.experiments import Figures, gather
from brain_tumor.pipelines.segmentation.evaluation import list_predicted, postprocess, require_unseen
from brain_tumor.training.settings import EngineSettings, PredictionSettings, StressSettings


def stress_network(
    network: TrainedNetwork,
    slices: Store,
    splits: pd.DataFrame,
    prediction: PredictionSettings,
    engine: EngineSettings,
    stress: StressSettings,
) -> pd.DataFrame:
    """Dice of each test patient under each corruption; after a cross-validation of all other patients too.

    Returns: rows `patient`, `corruption`, `severity`, `target`, `dice`; the corruption `none` has severity 0.
    """
    from brain_tumor.training.batches import Rows
    from brain_tumor.training.device import choose_device
    from brain_tumor.training.segmentation.corruption import corrupt
    from brain_tumor.training.segmentation.prediction import predict_images

    require_unseen(network, slices, splits)
    about, device = slices.description, choose_device(engine)
    cases = [(NONE, 0.0), *product(stress.corruptions, stress.severities)]
    if stress.missing_modalities:
        cases += [(f"{WITHOUT}{name}", 1.0) for name in about["modalities"]]
    tested, parts = [], []
    for _, module, patients in list_predicted(network, splits):
        chosen = slices.rows[slices.rows["patient"].isin(patients)]
        tested += [(patient, module, own) for patient, own in chosen.groupby("patient")]
    for patient, module, rows in track(tested, f"stress test of {network.experiment}"):
        own = rows.sort_values("slice")
        read = Rows(slices, own.index.to_numpy()).read(own.index.to_numpy())
        image, truth = read["image"].float().numpy(), read["labels"].numpy()
        spacing = tuple(own[["slice_mm", "row_mm", "column_mm"]].iloc[0].astype(float))
        for kind, severity in cases:
            changed = image
            if kind != NONE:
                numbers = own["slice"].to_numpy()
                changed = corrupt(image, kind, severity, numbers, spacing, about["modalities"], stress.seed)
            probability = np.concatenate(list(predict_images(module, changed, device, tta_flip=prediction.tta_flip)))
            predicted = postprocess(metrics.to_labels(probability), own, prediction, about["tissues"])
            counts = metrics.count_slices(truth, predicted, about["targets"]).assign(patient=patient)
            scores = metrics.score_patients(counts)
            dice = scores[scores["metric"] == "dice"].rename(columns={"value": "dice"})
            parts.append(dice.assign(corruption=kind, severity=severity))
    return pd.concat(parts, ignore_index=True)[["patient", "corruption", "severity", "target", "dice"]]


def compare_stress(slices: Store, **results: Any) -> tuple[pd.DataFrame, Figures]:
    """The table of `summarise_stress`, and the figure.

    Args:
        results: `<experiment>.stress` of each experiment.
    """
    from brain_tumor.figures.stress import draw_stress

    table = summarise_stress(gather(results, "stress"))
    about = slices.description
    title = "SIMULATED" if about["simulated"] else about["data_set"]
    headline = metrics.choose_headline(about["targets"])
    return table, {"stress": draw_stress(table[table["target"] == headline], f"{title}: Dice of {headline}")}


def write_stress_report(
    table: pd.DataFrame,
    figures: dict[str, bytes],
    slices: Store,
    stress: StressSettings,
    engine: EngineSettings,
) -> str:
    """The page of the stress test."""
    from brain_tumor.reporting.stress import compose_report

    settings = {"stress_test": stress.model_dump(), "training": engine.model_dump()}
    return compose_report(table, figures["stress"], slices.description, settings)
