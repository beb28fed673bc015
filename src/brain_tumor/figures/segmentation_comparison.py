"""Figures that compare networks: scores by target, what a network costs against what it reaches, parameters."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.figures.palette import colour_networks, name_network
from brain_tumor.figures.segmentation import measure_arms, place_legend_above


def draw_targets(comparison: pd.DataFrame, title: str) -> Figure:
    """Mean Dice over test patients of each network and target, with its 95 % interval."""
    dice = comparison.query("metric == 'dice' and protocol == 'volume' and set == 'test'")
    targets = list(dice["target"].unique())
    networks = list(dice["network"].unique())
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    # The bars of a target fill 0.8 of its place, so that targets stay apart.
    width = 0.8 / len(networks)
    middle = (len(networks) - 1) / 2
    for k, (network, colour) in enumerate(colour_networks(networks).items()):
        own = dice[dice["network"] == network]
        table = own.set_index("target").loc[targets]
        error = measure_arms(table, "mean")
        place = np.arange(len(targets)) + (k - middle) * width
        axes.bar(place, table["mean"], 0.92 * width, color=colour, label=name_network(network))
        axes.errorbar(
            place,
            table["mean"],
            yerr=error,
            fmt="none",
            elinewidth=1,
            ecolor="0.5",
        )
    axes.set(
        xticks=range(len(targets)),
        xticklabels=targets,
        ylim=(0, 1),
        ylabel="mean Dice of test patients' volumes",
    )
    place_legend_above(axes)
    axes.grid(axis="y", alpha=0.3)
    figure.suptitle(f"{title}: Dice and 95 % interval", fontsize="medium")
    return figure


def draw_costs(comparison: pd.DataFrame, costs: pd.DataFrame, target: str, title: str) -> Figure:
    """Dice of one target against parameters, and against slices a second."""
    dice = comparison.query("metric == 'dice' and protocol == 'volume' and set == 'test'")
    dice = dice[dice["target"] == target].set_index("network")
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    colours = colour_networks(costs["network"])
    for row in costs.itertuples():
        score = dice.loc[row.network]
        below = score["mean"] - score["low"]
        above = score["high"] - score["mean"]
        error = np.nan_to_num([[below], [above]])
        style = {"color": colours[row.network], "label": name_network(row.network)}
        for panel, value in zip(axes, (row.parameters / 1e6, row.slices_a_second), strict=True):
            panel.errorbar(value, score["mean"], yerr=error, fmt="o", **style)
    axes[0].set(xlabel="million parameters", ylabel=f"mean Dice of {target}", xlim=(0, None))
    device = costs["device"].iloc[0]
    axes[1].set(xlabel=f"slices predicted a second ({device})", xlim=(0, None))
    # Both panels have the same networks: one legend serves both.
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        fontsize="small",
    )
    for panel in axes:
        panel.grid(alpha=0.3)
    figure.suptitle(f"{title}: what a network costs and reaches", fontsize="medium")
    return figure


def draw_parameters(counts: pd.DataFrame) -> Figure:
    """Parameters of each network (a column) by its number of filters (the index)."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, colour in colour_networks(counts.columns).items():
        axes.plot(
            counts.index,
            counts[name],
            marker="o",
            color=colour,
            label=name_network(name),
        )
    axes.set(
        xscale="log",
        yscale="log",
        xticks=counts.index,
        xticklabels=counts.index,
        xlabel="filters of the first level",
        ylabel="parameters",
    )
    # Only numbers of filters that were counted have a tick.
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    axes.grid(alpha=0.3)
    figure.suptitle("Parameters by number of filters", fontsize="medium")
    return figure
