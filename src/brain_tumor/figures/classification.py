"""Figures of classification.

Curves, confusion, calibration, kernels, and images beside their saliency maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brain_tumor.figures.palette import BLUE, GREEN, ORANGE, VERMILLION, name_network
from brain_tumor.figures.segmentation import draw_losses, place_legend_above

LARGE_KERNEL, LARGE_IMAGE = 7, 200
"""Pixels a side of a first kernel, and of an image, from which the kernels show edges and stripes and not noise."""

VALIDATED = {"validation_accuracy": BLUE, "validation_macro_f1": ORANGE, "validation_likelihood": GREEN}
"""Columns of the training log, and their colours."""


@dataclass(frozen=True)
class SaliencyImage:
    """An image, its saliency map, and what is written above them."""

    title: str
    image: UInt8[np.ndarray, "s s"]
    heat: Float[np.ndarray, "s s"]


def draw_curves(log: pd.DataFrame, kept: float, title: str) -> Figure:
    """Losses and validation scores over the epochs; the epoch whose weights are `kept` marked."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    draw_losses(losses, log)
    for name, colour in VALIDATED.items():
        label = name.removeprefix("validation_").replace("macro_f1", "macro-F1")
        scores.plot(log["epoch"], log[name], marker=".", color=colour, label=label)
    scores.axvline(kept, color="0.6", linestyle=":", label=f"epoch kept: {kept:.0f}")
    scores.set(xlabel="epoch", ylabel="on validation images", ylim=(0, 1.02))
    scores.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    place_legend_above(scores)
    return _finish(figure, title)


def draw_confusion(
    pairs: Mapping[str, Int[np.ndarray, "k k"]],
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Images by true and predicted class, a panel for each test set; coloured by the share of the class."""
    figure = Figure(figsize=(4.4 * len(pairs), 3.9), layout="constrained")
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (name, counts) in zip(panels, pairs.items(), strict=True):
        # Shares and not counts: a class with more images wouldn't be darker for it. A class may have no image.
        of_class = counts.sum(1, keepdims=True)
        share = counts / np.maximum(of_class, 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            # Dark blue lies under shares above a half.
            ink = "white" if share[row, column] > 0.5 else "0.2"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=ink)
        axes.set(
            xticks=range(len(classes)),
            yticks=range(len(classes)),
            yticklabels=classes,
            xlabel="predicted class",
            title=f"{name}, {counts.sum():,} images",
        )
        axes.set_xticklabels(classes, rotation=30, ha="right")
        axes.set_ylabel("true class")
    return _finish(figure, title)


def draw_reliability(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Accuracy against confidence in bins of confidence, a panel for each way to compute it.

    The size of a dot is the number of images.
    """
    figure = Figure(figsize=(3.6 * len(tables), 3.5), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        confidence = table["confidence"]
        accuracy = table["accuracy"]
        axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
        axes.vlines(confidence, confidence, accuracy, color=VERMILLION, lw=1.5)
        # The root keeps bins of few images visible; the constant too.
        share = table["images"] / table["images"].sum()
        sizes = 15 + 250 * np.sqrt(share)
        axes.scatter(confidence, accuracy, s=sizes, color=BLUE, alpha=0.7)
        # Of four classes the most probable one has at least a quarter.
        axes.set(
            xlim=(0.2, 1.03),
            ylim=(-0.03, 1.03),
            xlabel="confidence",
            ylabel="accuracy",
            title=name,
        )
    return _finish(figure, title)


def show_structure(kernels: Float[np.ndarray, "n h w"], image_size: int) -> bool:
    """Whether the first layer's kernels are worth a figure."""
    kernel_size = min(kernels.shape[-2:])
    return kernel_size >= LARGE_KERNEL and image_size >= LARGE_IMAGE


def draw_kernels(
    kernels: Float[np.ndarray, "n h w"],
    title: str,
    most: int = 96,
    columns: int = 16,
) -> Figure:
    """The first layer's kernels, each from its least to its greatest weight around grey zero."""
    shown = kernels[:most]
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(0.5 * columns, 0.5 * rows + 0.5), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    # The last row may have more panels than kernels.
    for axes, kernel in zip(figure.axes, shown, strict=False):
        # The same to both sides, so that a weight of 0 is middle grey in each.
        largest = np.abs(kernel).max()
        axes.imshow(kernel, cmap="gray", vmin=-largest, vmax=largest)
    return _finish(figure, title)


def draw_saliency(images: Sequence[SaliencyImage], title: str, columns: int = 4) -> Figure:
    """Images, each beside itself with the saliency map of the predicted class over it."""
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(3 * columns, 1.8 * rows + 0.4), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    # The last row may have more panels than images.
    for axes, shown in zip(figure.axes, images, strict=False):
        _draw_map(axes, shown)
    return _finish(figure, title)


def _draw_map(axes: Axes, shown: SaliencyImage) -> None:
    """An image twice, side by side; its saliency map lies over the right one, and is clearest where it is highest."""
    side = len(shown.image)
    twice = np.concatenate([shown.image, shown.image], axis=1)
    axes.imshow(twice, cmap="gray", vmin=0, vmax=255)
    least = float(shown.heat.min())
    most = float(shown.heat.max())
    # A map that is the same everywhere has no range to divide by.
    strength = (shown.heat - least) / max(most - least, 1e-9)
    # Matplotlib's first pixel reaches from -0.5 to 0.5.
    left = bottom = side - 0.5
    right = 2 * side - 0.5
    top = -0.5
    axes.imshow(
        strength,
        cmap="inferno",
        alpha=0.65 * strength,
        extent=(left, right, bottom, top),
        vmin=0,
        vmax=1,
    )
    # The second picture narrows the axes to itself.
    axes.set(xlim=(-0.5, right), ylim=(bottom, top))
    heading = shown.title if most else f"{shown.title}: the map is 0 everywhere"
    axes.set_title(heading, fontsize=7, loc="left")


def draw_regions(means: pd.DataFrame, regions: Sequence[str], title: str) -> Figure:
    """Share of the saliency in each region by class, and that of a uniform map as a line.

    Args:
        means: a row for each class, its name the index; for each region its share and `{region}_uniform`.
    """
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for k, region in enumerate(regions):
        place = np.arange(len(means)) + 0.27 * (k - 1)
        axes.bar(place, means[region], 0.25, label=region, color=("0.75", VERMILLION, BLUE)[k])
        # The lines of all regions mean the same, and have one line in the legend: its last.
        axes.hlines(
            means[f"{region}_uniform"],
            place - 0.12,
            place + 0.12,
            color="0.1",
            label="a uniform map's share" if k == 2 else "",
        )
    axes.set(
        xticks=range(len(means)),
        xticklabels=means.index,
        ylabel="mean share of the saliency",
        ylim=(0, 1),
    )
    axes.legend(frameon=False, ncols=4, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1))
    return _finish(figure, title)


def draw_comparison(comparison: pd.DataFrame, title: str) -> Figure:
    """Accuracy and macro-F1 of every network on both test sets, with their intervals."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    networks = list(comparison["network"].unique())
    sets = list(comparison["test_set"].unique())
    names = [name_network(network) for network in networks]
    for axes, metric in zip(figure.subplots(1, 2), ("accuracy", "macro_f1"), strict=True):
        for k, test_set in enumerate(sets):
            part = comparison.query("metric == @metric and test_set == @test_set")
            # In the same order in each set, whatever the order of the rows.
            part = part.set_index("network").loc[networks]
            place = np.arange(len(networks)) + 0.2 * k - 0.1
            below = part["value"] - part["low"]
            above = part["high"] - part["value"]
            images = part["images"].iloc[0]
            axes.errorbar(
                place,
                part["value"],
                [below, above],
                fmt="o",
                capsize=3,
                color=("0.5", BLUE)[k],
                label=f"{test_set}, {images:,} images",
            )
        label = metric.replace("_", "-").replace("f1", "F1")
        axes.set(xticks=range(len(networks)), xticklabels=names, ylabel=label)
        axes.grid(axis="y", alpha=0.3)
    # Both panels have the same sets: the legend of the last one serves both.
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
        fontsize="small",
    )
    return _finish(figure, title)


def _finish(figure: Figure, title: str) -> Figure:
    figure.suptitle(title, fontsize="medium")
    return figure
