"""Nodes that compare the networks and write the report."""

from collections.abc import Collection, Mapping
from itertools import permutations
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.data.common.provenance import Origin
from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.store import Store
from brain_tumor.figures.segmentation_comparison import draw_costs, draw_parameters, draw_targets
from brain_tumor.metrics.segmentation import choose_headline, compare_patients
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.experiments import gather
from brain_tumor.reporting.segmentation.model_card import compose_model_card
from brain_tumor.reporting.segmentation.report import compose_report
from brain_tumor.training.settings import EngineSettings, PredictionSettings


def compare_networks(
    slices: Store, **results: Any
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Figure]]:
    """All experiments in one tidy table; their differences on the same patients; what they cost; figures of both.

    Args:
        results: `<experiment>.summary`, `.patient_scores`, `.cost` and `.network` of each experiment.
    """
    comparison, costs = (_join(gather(results, entry)) for entry in ("summary", "cost"))
    scores = {name: table[table["set"] == TEST] for name, table in gather(results, "patient_scores").items()}
    names = list(scores)
    for name in names[1:]:
        if set(scores[name]["patient"]) != set(scores[names[0]]["patient"]):
            raise ValueError(
                f"{names[0]} and {name} were tested on different patients; score both again with `kedro "
                "run --pipelines segmentation`"
            )
    pairs = permutations(names, 2)
    differences = [compare_patients(scores[one], scores[other]).assign(network=one, than=other) for one, other in pairs]
    columns = ["network", "than", "target", "metric", "difference", "low", "high", "better", "patients"]
    table = pd.concat(differences, ignore_index=True)[columns] if differences else pd.DataFrame(columns=columns)
    title = "SIMULATED" if slices.description["simulated"] else slices.description["data_set"]
    figures = {
        "1_targets": draw_targets(comparison, title),
        "2_costs": draw_costs(comparison, costs, choose_headline(slices.description["targets"]), title),
    }
    counts = _count_parameters({network.name for network in gather(results, "network").values()})
    return comparison, table, costs, figures | ({} if counts.empty else {"3_parameters": draw_parameters(counts)})


def _join(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables of experiments under each other. In the column `network` is the experiment.

    Two of them may train the same network.
    """
    return pd.concat([table.assign(network=name) for name, table in tables.items()], ignore_index=True)


def _count_parameters(names: Collection[str]) -> pd.DataFrame:
    """Parameters of each network by its number of filters; of those whose size is given so."""
    import torch

    from brain_tumor.networks import build, networks_of, takes

    sized = [name for name in networks_of("segmentation") if name in names and takes(name, "n_filters")]
    with torch.device("meta"):
        counts = {
            name: {n: sum(p.numel() for p in build(name, n_filters=n).parameters()) for n in (8, 16, 32, 64)}
            for name in sized
        }
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
    **results: Any,
) -> str:
    """The report as one HTML page.

    Args:
        task: the task's block of the parameters: recipe, prediction, and each experiment.
        figures: of the comparison.
        results: `<experiment>.patient_scores`, `.figures` and `.network` of each experiment, `.attention_summary` and
            `.attention_figures` of some.
    """
    scores, drawn, networks = (gather(results, entry) for entry in ("patient_scores", "figures", "network"))
    pictures = gather(results, "attention_figures")
    attention = {name: (summary, pictures[name]) for name, summary in gather(results, "attention_summary").items()}
    tables = [comparison, differences, costs, index, splits]
    return compose_report(
        tables, slices.description, task | {"training": engine}, figures, scores, drawn, attention, networks
    )


def write_model_card(
    comparison: pd.DataFrame,
    index: pd.DataFrame,
    splits: pd.DataFrame,
    slices: Store,
    prediction: PredictionSettings,
    origin: Origin,
    engine: EngineSettings,
    **results: TrainedNetwork,
) -> str:
    """The model card of all networks of the task. `results`: `<experiment>.network` of each."""
    settings = {"prediction": prediction.model_dump(), "training": engine.model_dump(exclude_none=True)}
    return compose_model_card(
        comparison, index, splits, slices.description, origin, settings, list(gather(results, "network").values())
    )
