"""Figures of attention: maps over scans, what they mean, how they change while a network learns."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.figure import Figure

from brain_tumor.figures.segmentation import grey, paint, show
from brain_tumor.figures.segmentation_data import Animation


def draw_maps(
    plane: Float[np.ndarray, "n s s"],
    truth: UInt8[np.ndarray, "n s s"],
    maps: Float[np.ndarray, "n k s s"],
    rows: Sequence[str],
    names: Sequence[str],
    title: str,
) -> Figure:
    """A row for each slice: the truth, then each map over the scan.

    Colours span 0 to 1 for gates, 0 to the map's highest for attention received.
    """
    figure = Figure(figsize=(1.9 * (len(names) + 1), 2.05 * len(rows) + 0.8), layout="constrained")
    grid = figure.subplots(len(rows), len(names) + 1, squeeze=False)
    for k, axes in enumerate(grid):
        show(axes[0], paint(plane[k], truth[k]))
        axes[0].set_ylabel(rows[k], fontsize="x-small")
        for panel, attention in zip(axes[1:], maps[k], strict=True):
            show(panel, overlay(plane[k], attention))
            panel.set_xlabel(f"{np.nanmin(attention):.2f} to {np.nanmax(attention):.2f}", fontsize="x-small")
    for axes, name in zip(grid[0], ["truth", *names], strict=True):
        axes.set_title(name, fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def overlay(
    plane: Float[np.ndarray, "s s"], attention: Float[np.ndarray, "s s"], opacity: float = 0.6
) -> Float[np.ndarray, "s s 3"]:
    """A map in colour over a plane in grey; blue is nothing, yellow the most. Where the map is NaN, the plane alone."""
    value = np.clip(attention / max(float(np.nanmax(attention)), 1.0), 0, 1)
    below = grey(plane)[..., None]
    return np.where(
        np.isnan(value)[..., None], below, (1 - opacity) * below + opacity * colormaps["viridis"](value)[..., :3]
    )


def draw_meaning(summary: pd.DataFrame, title: str) -> Figure:
    """For each map: AUC for tumour and for brain with intervals, and how much Dice is lost without it.

    Args:
        summary: rows `map`, `metric`, `mean`, `low`, `high`.
    """
    figure = Figure(figsize=(9, 0.42 * summary["map"].nunique() + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(summary["map"].unique())
    place = {name: len(names) - k for k, name in enumerate(names)}
    losses = [metric for metric in summary["metric"].unique() if metric.startswith("dice_loss_")]
    for axes, metrics in ((left, ["auc_tumour", "auc_brain"]), (right, losses)):
        for k, metric in enumerate(metrics):
            table = summary[summary["metric"] == metric]
            y = table["map"].map(place) + 0.16 * (k - (len(metrics) - 1) / 2)
            error = np.abs(table[["low", "high"]].to_numpy().T - table["mean"].to_numpy())
            axes.errorbar(
                table["mean"], y, xerr=np.nan_to_num(error), fmt="o", markersize=4, label=metric.replace("_", " ")
            )
        axes.legend(frameon=False, fontsize="x-small")
        axes.grid(axis="x", alpha=0.3)
    left.axvline(0.5, color="0.6", linestyle=":")
    right.axvline(0, color="0.6", linestyle=":")
    left.set(
        yticks=list(place.values()),
        yticklabels=names,
        xlabel="area under the ROC curve (0.5: chance)",
        xlim=(-0.02, 1.02),
    )
    right.set(xlabel="Dice lost when the map is replaced by its mean")
    figure.suptitle(title, fontsize="medium")
    return figure


def animate_history(
    plane: Float[np.ndarray, "s s"],
    truth: UInt8[np.ndarray, "s s"],
    maps: Float[np.ndarray, "e k s s"],
    names: Sequence[str],
    title: str,
    milliseconds: int = 400,
) -> Animation:
    """One slice over the epochs: the truth, then the probability of each tissue and each attention map.

    The last epoch stays longer.
    """
    frames = []
    for epoch, planes in enumerate(maps, start=1):
        figure = Figure(figsize=(1.5 * (len(names) + 1), 1.9), dpi=80, layout="constrained")
        grid = figure.subplots(1, len(names) + 1)
        show(grid[0], paint(plane, truth))
        for axes, attention, name in zip(grid, [None, *planes], ["truth", *names], strict=True):
            if attention is not None:
                show(axes, overlay(plane, attention))
            axes.set_title(name, fontsize="x-small")
        figure.suptitle(f"{title}epoch {epoch}", fontsize="small")
        frames.append(_pixels(figure))
    return Animation(np.stack([*frames, *[frames[-1]] * 4]), milliseconds)


def _pixels(figure: Figure) -> UInt8[np.ndarray, "h w 3"]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
