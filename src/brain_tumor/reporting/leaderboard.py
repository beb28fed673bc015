"""What the leaderboards of segmentation and classification both say of a network: where it is from, what it costs."""

from collections.abc import Mapping

import pandas as pd

from brain_tumor.figures.palette import name_network
from brain_tumor.networks.library import is_library, package_of
from brain_tumor.networks.trained import TrainedNetwork
from brain_tumor.reporting.page import HeatMap
from brain_tumor.reporting.start import tell_start

SOURCES = {"monai": "MONAI", "segmentation_models_pytorch": "smp"}
"""Packages > what a leaderboard calls them; others keep their name."""

COSTS = (
    "Parameters, GFLOPs and milliseconds are of one network without test-time augmentation; times are of this run's "
    "device, beside whatever else it ran."
)


def lead(
    caption: str, scores: pd.DataFrame, networks: Mapping[str, TrainedNetwork], costs: pd.DataFrame, unit: str
) -> HeatMap:
    """The leaderboard: scores of every network, its source, whether it is pretrained, its size, operations and times.

    Args:
        scores: rows `network`, then the columns that come first, the best network on top; the first of them is shaded.
        networks: experiment > its network.
        costs: rows `network`, `gflops`, `a_second`, `training_seconds`.
        unit: what is predicted: a slice, an image.
    """
    cost = costs.set_index("network")
    rows = []
    for name in scores["network"]:
        network = networks[name]
        own = cost.loc[name]
        row = {"source": find_source(network.name), "pretrained": tell_start(network), "parameters": network.parameters}
        row |= {"GFLOPs": own["gflops"], f"ms per {unit}": f"{1000 / own['a_second']:,.1f}"}
        rows.append(row | {"training, s": f"{own['training_seconds']:,.0f}"})
    table = scores.assign(network=scores["network"].map(name_network)).reset_index(drop=True)
    return HeatMap(f"{caption} {COSTS}", table.join(pd.DataFrame(rows)), [table.columns[1]])


def find_source(name: str) -> str:
    """Whose code a network is.

    Args:
        name: one of the project's, or a library's: the path of a class, or `timm:NAME`.
    """
    if not is_library(name):
        return "this project"
    package = package_of(name)
    return SOURCES.get(package, package)
