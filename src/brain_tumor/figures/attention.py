"""Figures of attention: maps over scans, what they mean, how they change while a network learns."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brain_tumor.figures.palette import INK, colour_targets
from brain_tumor.figures.segmentation import frame_brains, grey, measure_arms, paint, place_legend_above, show
from brain_tumor.figures.segmentation_data import Animation

LOSS = "dice_loss_"
"""Before the name of a target, in the summary of attention."""

AREAS = {"auc_tumour": INK, "auc_brain": "0.6"}
"""Metrics that say what a map tells apart, and their colours."""


def draw_maps(
    plane: Float[np.ndarray, "n s s"],
    truth: UInt8[np.ndarray, "n s s"],
    maps: Float[np.ndarray, "n k s s"],
    rows: Sequence[str],
    names: Sequence[str],
    title: str,
) -> Figure:
    """A row for each slice: the reference mask, then each map over the scan, cropped to the brain.

    Colours span 0 to 1 for gates, 0 to the map's highest for attention received.
    """
    headings = ["reference mask", *names]
    size = (2 * len(headings), 2.5 * len(rows) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(headings), squeeze=False)
    boxes = frame_brains([scan[None] for scan in plane])
    for k, (axes, box) in enumerate(zip(grid, boxes, strict=True)):
        masked = paint(plane[k], truth[k])
        show(axes[0], masked[box])
        axes[0].set_ylabel(rows[k], fontsize="small")
        for panel, attention in zip(axes[1:], maps[k], strict=True):
            coloured = overlay(plane[k], attention)
            show(panel, coloured[box])
            # Attention received has a colour scale of its own in each map, so that its range is written below.
            least, most = np.nanmin(attention), np.nanmax(attention)
            panel.set_xlabel(f"{least:.2f} to {most:.2f}", fontsize="small")
    for axes, name in zip(grid[0], headings, strict=True):
        axes.set_title(name, fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def overlay(
    plane: Float[np.ndarray, "s s"],
    attention: Float[np.ndarray, "s s"],
    opacity: float = 0.6,
) -> Float[np.ndarray, "s s 3"]:
    """A map in colour over a plane in grey; blue is nothing, yellow the most. Where the map is NaN, the plane alone."""
    # Gates reach 1 at most, attention received goes beyond it.
    most = max(float(np.nanmax(attention)), 1.0)
    value = np.clip(attention / most, 0, 1)
    below = grey(plane)[..., None]
    colours = colormaps["viridis"](value)[..., :3]
    mixed = (1 - opacity) * below + opacity * colours
    unseen = np.isnan(value)[..., None]
    return np.where(unseen, below, mixed)


def draw_meaning(summary: pd.DataFrame, targets: Sequence[str], title: str) -> Figure:
    """For each map: AUC for tumour and for brain with intervals, and how much Dice is lost without it.

    Args:
        summary: rows `map`, `metric`, `mean`, `low`, `high`.
        targets: in the order declared.
    """
    names = list(summary["map"].unique())
    figure = Figure(figsize=(9, 0.5 * len(names) + 1.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    # The first map is on top: the axis rises.
    place = {name: len(names) - k for k, name in enumerate(names)}
    dice = {f"{LOSS}{target}": colour for target, colour in colour_targets(targets).items()}
    _draw_intervals(left, summary, place, AREAS)
    _draw_intervals(right, summary, place, dice)
    # Dotted lines are where a map means nothing: chance, and no Dice lost.
    left.axvline(0.5, color="0.6", linestyle=":")
    right.axvline(0, color="0.6", linestyle=":")
    left.set(
        yticks=list(place.values()),
        yticklabels=names,
        xlabel="area under the ROC curve (0.5: chance)",
        xlim=(-0.02, 1.02),
    )
    right.set(xlabel="Dice lost when the map is replaced by its mean")
    right.tick_params(axis="x", labelsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def _draw_intervals(
    axes: Axes,
    summary: pd.DataFrame,
    place: Mapping[str, int],
    metrics: Mapping[str, str],
) -> None:
    """Mean and interval of some metrics of each map; `metrics`: name > colour."""
    # The metrics of a map share 0.7 of its line, so that neighbouring maps stay apart.
    step = 0.7 / len(metrics)
    middle = (len(metrics) - 1) / 2
    for k, (metric, colour) in enumerate(metrics.items()):
        table = summary[summary["metric"] == metric]
        y = table["map"].map(place) + step * (middle - k)
        label = metric.removeprefix("auc_").removeprefix(LOSS)
        axes.errorbar(
            table["mean"],
            y,
            xerr=measure_arms(table, "mean"),
            fmt="o",
            markersize=4,
            color=colour,
            label=label,
        )
    place_legend_above(axes)
    axes.grid(axis="x", alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def animate_history(
    plane: Float[np.ndarray, "s s"],
    truth: UInt8[np.ndarray, "s s"],
    maps: Float[np.ndarray, "e k s s"],
    names: Sequence[str],
    title: str,
    milliseconds: int = 400,
) -> Animation:
    """One slice over the epochs: the reference mask, then the probability of each tissue and each attention map.

    The last epoch stays longer.
    """
    frames = []
    headings = ["reference mask", *names]
    (box,) = frame_brains([plane[None]])
    for epoch, planes in enumerate(maps, start=1):
        figure = Figure(figsize=(1.7 * len(headings), 2.5), dpi=90, layout="constrained")
        overlays = [overlay(plane, attention) for attention in planes]
        pictures = [paint(plane, truth), *overlays]
        panels = figure.subplots(1, len(headings))
        for axes, picture, name in zip(panels, pictures, headings, strict=True):
            show(axes, picture[box])
            axes.set_title(name, fontsize="x-small")
        figure.suptitle(f"{title}epoch {epoch}", fontsize="small")
        frames.append(_pixels(figure))
    pause = [frames[-1]] * 4
    return Animation(np.stack([*frames, *pause]), milliseconds)


def _pixels(figure: Figure) -> UInt8[np.ndarray, "h w 3"]:
    # A canvas in memory, which needs no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    # A copy, because the canvas owns its buffer.
    return pixels.copy()
