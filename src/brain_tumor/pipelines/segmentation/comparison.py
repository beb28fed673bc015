"""Nodes that compare the networks and write the report."""

from itertools import permutations
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.data.origin import Origin
from brain_tumor.data.split import TEST
from brain_tumor.data.store import Store
from brain_tumor.figures.segmentation_comparison import draw_costs, draw_parameters, draw_targets
from brain_tumor.metrics.segmentation import choose_headline, compare_patients
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.segmentation.card import compose_model_card
from brain_tumor.pipelines.segmentation.report import compose_report
from brain_tumor.training.settings import EngineSettings, PredictionSettings


def compare_networks(slices: Store, *results: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Figure]]:
    """All networks in one tidy table; their differences on the same patients; what they cost; figures of both.

    Args:
        results: the summary of each network, then the patients' scores of each, then the cost of each.
    """
    third = len(results) // 3
    comparison, costs = (pd.concat(tables, ignore_index=True) for tables in (results[:third], results[2 * third :]))
    scores = {name: table[table["set"] == TEST] for name, table in zip(comparison["network"].unique(), results[third : 2 * third], strict=True)}
    names = list(scores)
    for name in names[1:]:
        if set(scores[name]["patient"]) != set(scores[names[0]]["patient"]):
            raise ValueError(f"{names[0]} and {name} were tested on different patients; score both again with `kedro run --pipelines segmentation`")
    pairs = permutations(names, 2)
    differences = [compare_patients(scores[one], scores[other]).assign(network=one, than=other) for one, other in pairs]
    columns = ["network", "than", "target", "metric", "difference", "low", "high", "better", "patients"]
    table = pd.concat(differences, ignore_index=True)[columns] if differences else pd.DataFrame(columns=columns)
    title = "SIMULATED" if slices.description["simulated"] else slices.description["data_set"]
    figures = {
        "1_targets": draw_targets(comparison, title),
        "2_costs": draw_costs(comparison, costs, choose_headline(slices.description["targets"]), title),
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
    task: dict[str, Any],
    engine: EngineSettings,
    figures: dict[str, bytes],
    *results: Any,
) -> str:
    """The report as one HTML page.

    Args:
        task: the task's block of the parameters: recipe, prediction, and each experiment.
        figures: of the comparison.
        results: the patients' scores of each network, the figures of each, pairs of what its attention means and the figures of it, then the networks.
    """
    names = list(comparison["network"].unique())
    scores, drawn = dict(zip(names, results, strict=False)), dict(zip(names, results[len(names) :], strict=False))
    attention, networks = results[2 * len(names) : -len(names)], results[-len(names) :]
    settings = task | {"training": engine}
    tables = [comparison, differences, costs, index, splits]
    return compose_report(tables, slices.description, settings, figures, scores, drawn, list(zip(attention[::2], attention[1::2], strict=True)), networks)


def write_model_card(
    comparison: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    slices: Store,
    prediction: PredictionSettings,
    origin: Origin,
    engine: EngineSettings,
    *networks: TrainedNetwork,
) -> str:
    """The model card of all networks of the task."""
    settings = {"prediction": prediction.model_dump(), "training": engine.model_dump(exclude_none=True)}
    return compose_model_card(comparison, index, splits, slices.description, origin, settings, networks)
