"""Figure of the stress test: Dice by severity of each corruption, and without each modality."""

import pandas as pd
from matplotlib.figure import Figure

from brain_tumor.data.scans.data_set import WITHOUT
from brain_tumor.figures.palette import colour_networks, name_network

COLUMNS = 3


def draw_stress(table: pd.DataFrame, title: str) -> Figure:
    """A panel for each corruption with severities, a line for each network; one with a bar for each missing modality.

    Args:
        table: rows `network`, `corruption`, `severity`, `dice` of one target.
    """
    colours = colour_networks(table["network"])
    whole = table[table["severity"] == 0].set_index("network")["dice"]
    missing = table[table["corruption"].str.startswith(WITHOUT)]
    graded = table[(table["severity"] > 0) & ~table.index.isin(missing.index)]
    kinds = graded["corruption"].unique().tolist()
    panels = len(kinds) + bool(len(missing))
    rows = max(1, -(-panels // COLUMNS))
    figure = Figure(figsize=(9, 2.7 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    for axis, kind in zip(axes, kinds, strict=False):
        for name, own in graded[graded["corruption"] == kind].groupby("network", sort=False):
            severities, dice = [0, *own["severity"]], [whole[name], *own["dice"]]
            axis.plot(severities, dice, marker=".", color=colours[name])
        axis.set(title=kind, xlabel="severity", xlim=(0, 1.05))
    if len(missing):
        axis = axes[len(kinds)]
        names = missing["corruption"].unique().tolist()
        width = 0.8 / len(colours)
        for place, (name, colour) in enumerate(colours.items()):
            own = missing[missing["network"] == name].set_index("corruption")["dice"]
            axis.bar([k + width * place for k in range(len(names))], own[names], width, color=colour)
            axis.axhline(whole[name], color=colour, linestyle=":", linewidth=1)
        ticks = [k + width * (len(colours) - 1) / 2 for k in range(len(names))]
        axis.set_xticks(ticks, [name.removeprefix(WITHOUT) for name in names])
        axis.set(title="without a modality", xlabel="dotted: with all")
    for axis in axes:
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    for axis in axes[panels:]:
        axis.set_visible(False)
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("mean Dice")
    for name, colour in colours.items():
        figure.axes[0].plot([], [], color=colour, marker=".", label=name_network(name))
    figure.legend(loc="outside lower center", ncols=min(len(colours), 4), frameon=False, fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure
