"""Nodes that compare the segmentation networks and write the report."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from brain_tumor.data.common.provenance import Origin
from brain_tumor.data.common.sets import TEST
from brain_tumor.data.common.store import Store
from brain_tumor.metrics.segmentation import choose_headline, compare_pairs
from brain_tumor.metrics.uncertainty import CONFIDENCE, order_scores, pair_scores, trace_risk
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.pipelines.experiments import Figures, gather
from brain_tumor.reporting.segmentation.model_card import compose_model_card
from brain_tumor.reporting.segmentation.report import compose_report
from brain_tumor.training.settings import EngineSettings, PredictionSettings

if TYPE_CHECKING:
    from torch import nn


def compare_networks(
    slices: Store, **results: Any
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, Figures]:
    """Tables of all experiments' scores, paired differences, costs and how well confidence orders errors; figures.

    Args:
        results: `<experiment>.summary`, `.patient_scores`, `.cost` and `.network` of each experiment.
    """
    from brain_tumor.figures.segmentation_comparison import draw_costs, draw_parameters, draw_targets

    comparison = _join(gather(results, "summary"))
    costs = _join(gather(results, "cost"))
    scores = gather(results, "patient_scores")
    differences = _compare_pairs(scores)
    uncertainty = _join({name: order_scores(table) for name, table in scores.items()})
    about = slices.description
    title = "SIMULATED" if about["simulated"] else about["data_set"]
    headline = choose_headline(about["targets"])
    figures = {
        "1_targets": draw_targets(comparison, title),
        "2_costs": draw_costs(comparison, costs, headline, title),
    }
    networks = {network.name for network in gather(results, "network").values()}
    counts = _count_parameters(networks)
    # Networks of the user's own may have no `n_filters`.
    if not counts.empty:
        figures["3_parameters"] = draw_parameters(counts)
    figures["4_risk_coverage"] = _draw_risk(scores, headline, title)
    return comparison, differences, costs, uncertainty, figures


def _draw_risk(patient_scores: Mapping[str, pd.DataFrame], target: str, title: str) -> Any:
    from brain_tumor.figures.uncertainty import draw_risk_coverage

    curves = {}
    for name, scores in patient_scores.items():
        pairs = pair_scores(scores)
        own = pairs[(pairs["set"] == TEST) & (pairs["target"] == target)]
        curves[name] = trace_risk(own[CONFIDENCE].to_numpy(), 1 - own["dice"].to_numpy())
    return draw_risk_coverage(curves, f"1 - mean Dice of {target}", "test patients", f"{title}: risk and coverage")


def _compare_pairs(patient_scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Paired difference in Dice of every experiment to every other on the test patients.

    Raises:
        ValueError: if two experiments were tested on different patients.
    """
    scores = {name: table[table["set"] == TEST] for name, table in patient_scores.items()}
    names = list(scores)
    patients = {name: set(table["patient"]) for name, table in scores.items()}
    for name in names[1:]:
        # Differences are paired: each patient needs a score of both.
        if patients[name] != patients[names[0]]:
            raise ValueError(
                f"{names[0]} and {name} were tested on different patients; score both again with `kedro "
                "run --pipelines segmentation`"
            )
    return compare_pairs(scores)


def _join(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The experiments' tables, concatenated, with the experiment in column `network`."""
    # The experiment, because two of them may train the same network.
    named = [table.assign(network=name) for name, table in tables.items()]
    return pd.concat(named, ignore_index=True)


def _count_parameters(names: Collection[str]) -> pd.DataFrame:
    """Number of parameters of each network that has `n_filters`, for 8 to 64 filters."""
    import torch

    from brain_tumor.networks import build, networks_of, takes

    sized = [name for name in networks_of("segmentation") if name in names and takes(name, "n_filters")]
    counts: dict[str, dict[int, int]] = {}
    # On the meta device no memory is allocated and no weight is drawn.
    with torch.device("meta"):
        for name in sized:
            networks = {n: build(name, n_filters=n) for n in (8, 16, 32, 64)}
            counts[name] = {n: _count(network) for n, network in networks.items()}
    return pd.DataFrame(counts).rename_axis("n_filters")


def _count(network: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def write_report(
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    costs: pd.DataFrame,
    uncertainty: pd.DataFrame,
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
        results: `<experiment>.patient_scores`, `.figures`, `.network` and `.viewers` of each experiment,
            `.attention_summary` and `.attention_figures` of some.
    """
    scores = gather(results, "patient_scores")
    drawn = gather(results, "figures")
    networks = gather(results, "network")
    pictures = gather(results, "attention_figures")
    summaries = gather(results, "attention_summary")
    viewers = gather(results, "viewers")
    attention = {name: (summary, pictures[name]) for name, summary in summaries.items()}
    tables = [comparison, differences, costs, uncertainty, index, splits]
    settings = task | {"training": engine}
    return compose_report(tables, slices.description, settings, figures, scores, drawn, attention, networks, viewers)


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
    """The model card of all networks of the task.

    Args:
        results: `<experiment>.network` of each experiment.
    """
    settings = {"prediction": prediction.model_dump(), "training": engine.model_dump(exclude_none=True)}
    networks = list(gather(results, "network").values())
    return compose_model_card(comparison, index, splits, slices.description, origin, settings, networks)
