"""Figures of segmentation: curves, scores by patient, scans beside reference mask and prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from brain_tumor.figures.palette import ERRORS, INK, TARGETS, colour_targets

SIDE = 2.2
"""Inches of a brain in a figure: more than 180 pixels on a page that is 1,088 wide."""

STEEP = 4
"""A loss axis is logarithmic if the first epoch's loss is as many times the highest of the others."""

DICE = "validation_dice_"
"""Before the name of a target, in the training log."""

LEGEND_ENTRY = 1.4
"""Inches that a colour and its name take."""

Box = tuple[slice, slice]
"""Rows and columns of a slice."""


@dataclass(frozen=True)
class Example:
    """One prepared slice of a patient.

    Attributes:
        truth: labels of the reference mask.
        probability: of any tumour, in steps of 1/255.
        predicted: labels of the prediction.
    """

    title: str
    image: Float[np.ndarray, "m s s"]
    truth: UInt8[np.ndarray, "s s"]
    probability: UInt8[np.ndarray, "s s"]
    predicted: UInt8[np.ndarray, "s s"]


def draw_curves(log: pd.DataFrame, kept: Sequence[float], title: str) -> Figure:
    """Losses, and validation Dice of each target, over the epochs (the mean of folds where there are several).

    Args:
        kept: the epoch whose weights were kept, of each fold; they are marked.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    log = log.groupby("epoch", as_index=False).mean()
    draw_losses(losses, log)
    targets = [name.removeprefix(DICE) for name in log.columns if name.startswith(DICE)]
    for target, colour in colour_targets(targets).items():
        scores.plot(
            log["epoch"],
            log[f"{DICE}{target}"],
            marker=".",
            color=colour,
            label=target,
        )
    for epoch in sorted(set(kept)):
        scores.axvline(epoch, color="0.6", linestyle=":", label=f"kept: {epoch:.0f}")
    scores.set(xlabel="epoch", ylabel="Dice, pooled over validation slices", ylim=(0, 1))
    place_legend_above(scores)
    return finish(figure, title)


def draw_losses(axes: Axes, log: pd.DataFrame) -> None:
    """Loss of training and validation over the epochs."""
    for name, colour in (("train_loss", "0.6"), ("validation_loss", INK)):
        axes.plot(
            log["epoch"],
            log[name],
            marker=".",
            color=colour,
            label=name.removesuffix("_loss"),
        )
    axes.set(xlabel="epoch", ylabel="loss")
    losses = log[["train_loss", "validation_loss"]].to_numpy()
    # Untrained weights can give a loss that presses all later epochs onto the axis.
    first, later = losses[:1], losses[1:]
    steep = len(later) > 0 and first.max() > STEEP * later.max()
    # A logarithmic axis has no place for 0 or less.
    if steep and losses.min() > 0:
        axes.set_yscale("log")
        axes.set_ylabel("loss, logarithmic axis")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    place_legend_above(axes)


def place_legend_above(axes: Axes) -> None:
    """A legend in one line between title and axes, where no data can be."""
    _, labels = axes.get_legend_handles_labels()
    axes.legend(
        frameon=False,
        fontsize="small",
        # Matplotlib takes no legend of 0 columns.
        ncols=max(len(labels), 1),
        columnspacing=1,
        handlelength=1.2,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
    )


def measure_arms(table: pd.DataFrame, value: str) -> Float[np.ndarray, "2 n"]:
    """Lengths of error bars below and above a column, to `low` and `high`; 0 where there is no interval."""
    # Matplotlib takes lengths, and none that is NaN or negative.
    bounds = table[["low", "high"]].to_numpy().T
    lengths = np.abs(bounds - table[value].to_numpy())
    return np.nan_to_num(lengths)


def draw_scores(scores: pd.DataFrame, title: str) -> Figure:
    """Dice of every patient, a column for each target; the bar is the mean.

    Args:
        scores: rows `patient`, `target`, `metric`, `value`.
    """
    dice = scores[scores["metric"] == "dice"]
    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    axes = figure.subplots()
    # The seed is fixed: the same scores give the same figure.
    rng = np.random.default_rng(0)
    targets = colour_targets(dice["target"].unique())
    for k, (target, colour) in enumerate(targets.items()):
        values = dice.loc[dice["target"] == target, "value"]
        x = k + rng.uniform(-0.15, 0.15, len(values))
        axes.scatter(x, values, s=18, alpha=0.7, color=colour)
        axes.hlines(values.mean(), k - 0.3, k + 0.3, color="0.2")
    axes.set(
        xticks=range(len(targets)),
        xticklabels=targets,
        ylim=(-0.03, 1.03),
        ylabel="Dice of a patient's volume",
    )
    axes.grid(axis="y", alpha=0.3)
    return finish(figure, title)


def draw_examples(
    examples: Sequence[Example],
    modalities: Sequence[str],
    tissues: Sequence[str],
    title: str,
) -> Figure:
    """A row for each example: two modalities, reference mask, probability of any tumour, prediction, errors."""
    shown = choose_modalities(modalities)
    columns = [*shown, "reference mask", "probability of tumour", "prediction", "errors"]
    boxes = frame_brains([example.image for example in examples])
    figure, grid = lay_grid(boxes, len(columns))
    for row, example, box in zip(grid, examples, boxes, strict=True):
        pictures = _picture_example(example, list(shown.values()), box)
        for axes, picture in zip(row, pictures, strict=True):
            show(axes, picture)
        row[0].set_ylabel(example.title, fontsize="small")
    probability = columns.index("probability of tumour")
    _draw_scale(figure, grid[-1, probability])
    name_columns(figure, grid, columns, colour_targets(tissues) | ERRORS)
    return finish(figure, title)


def _picture_example(example: Example, channels: Sequence[int], box: Box) -> list[np.ndarray]:
    """The pictures of an example, in the order of the columns of `draw_examples`."""
    scan = example.image[0][box]
    truth = example.truth[box]
    predicted = example.predicted[box]
    modalities = [grey(example.image[channel])[box] for channel in channels]
    return [
        *modalities,
        paint(scan, truth),
        _colour_probability(example.probability[box]),
        paint(scan, predicted),
        colour_errors(scan, truth, predicted),
    ]


def _draw_scale(figure: Figure, axes: Axes) -> None:
    """The colours of 0 and 1 along the lower edge of a picture of probabilities, which is black there."""
    place = axes.inset_axes((0.2, 0.07, 0.6, 0.035))
    colours = ScalarMappable(Normalize(0, 1), "inferno")
    scale = figure.colorbar(colours, cax=place, orientation="horizontal")
    scale.set_ticks([0, 1])
    scale.outline.set_edgecolor("white")
    place.tick_params(labelsize="x-small", labelcolor="white", color="white", pad=1)


def draw_predictions(
    scans: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    modalities: Sequence[str],
    tissues: Sequence[str],
    title: str,
) -> Figure:
    """A row for each scan: two modalities of one slice, then prediction and (if any has one) reference mask in colour.

    Args:
        scans: title > image (m, h, w), labels predicted and labels of the reference mask (h, w).
    """
    compared = any(reference is not None for _, _, reference in scans.values())
    shown = choose_modalities(modalities)
    columns = [*shown, "prediction"]
    if compared:
        columns.append("reference mask")
    boxes = frame_brains([image for image, _, _ in scans.values()])
    figure, grid = lay_grid(boxes, len(columns))
    for row, box, (name, (image, *masks)) in zip(grid, boxes, scans.items(), strict=True):
        # Masks lie over the first modality that is there; a missing one is 0 everywhere.
        there = [bool(plane.any()) for plane in image]
        scan = image[there.index(True) if any(there) else 0][box]
        planes = [grey(image[channel])[box] for channel in shown.values()]
        overlays = [paint(scan, labels[box]) for labels in masks if labels is not None]
        # A scan without reference mask has a picture less than others.
        for axes, picture in zip(row, [*planes, *overlays], strict=False):
            show(axes, picture)
        for axes, channel in zip(row, shown.values(), strict=False):
            if not there[channel]:
                middle = {"ha": "center", "va": "center", "color": "white", "transform": axes.transAxes}
                axes.text(0.5, 0.5, "missing", **middle)
        if compared and masks[-1] is None:
            row[-1].axis("off")
        row[0].set_ylabel(name, fontsize="small")
    name_columns(figure, grid, columns, colour_targets(tissues))
    return finish(figure, title)


def choose_modalities(modalities: Sequence[str]) -> dict[str, int]:
    """The two modalities that figures show, and their channels.

    The first, and the one with contrast agent (of BraTS FLAIR and T1ce), else the last.
    """
    second = min(2, len(modalities) - 1)
    # A set, because of one modality both are the same.
    channels = sorted({0, second})
    return {modalities[channel]: channel for channel in channels}


def frame_brains(images: Sequence[np.ndarray], margin: int = 2) -> list[Box]:
    """A box around the brain of each image (m, h, w); all of one size, as far as the images allow."""
    row_spans, column_spans = [], []
    for image in images:
        # Prepared images are 0 outside the brain in every modality.
        brain = (image != 0).any(0)
        row_spans.append(_find_span(brain.any(1)))
        column_spans.append(_find_span(brain.any(0)))
    height = _find_longest(row_spans) + 2 * margin
    width = _find_longest(column_spans) + 2 * margin
    boxes = []
    for image, row_span, column_span in zip(images, row_spans, column_spans, strict=True):
        _, image_height, image_width = image.shape
        rows = _widen(row_span, height, image_height)
        columns = _widen(column_span, width, image_width)
        boxes.append((rows, columns))
    return boxes


def _find_longest(spans: Sequence[tuple[int, int]]) -> int:
    return max(end - start for start, end in spans)


def _find_span(shown: np.ndarray) -> tuple[int, int]:
    """From the first to after the last that is True; all where none is."""
    places = np.flatnonzero(shown)
    if not places.size:
        return 0, len(shown)
    return int(places[0]), int(places[-1]) + 1


def _widen(span: tuple[int, int], side: int, length: int) -> slice:
    """As many rows around the middle of a span, inside the image."""
    first, after = span
    centred = (first + after - side) // 2
    last_start = max(length - side, 0)
    start = min(max(centred, 0), last_start)
    end = min(start + side, length)
    return slice(start, end)


def lay_grid(boxes: Sequence[Box], columns: int) -> tuple[Figure, np.ndarray]:
    """A row of axes for each box, about as high as the box is when it is shown upright."""
    # Rows run to the left, so that they are the width of an upright brain.
    width = max(rows.stop - rows.start for rows, _ in boxes)
    height = max(columns.stop - columns.start for _, columns in boxes)
    # At most twice as high as wide: a narrow strip of brain would make a figure without end.
    shape = min(height / width, 2)
    size = (SIDE * columns, SIDE * shape * len(boxes) + 1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(boxes), columns, squeeze=False)
    return figure, grid


def name_columns(
    figure: Figure,
    grid: np.ndarray,
    columns: Sequence[str],
    colours: Mapping[str, str],
) -> None:
    """Headings of the columns, and a legend of the colours below."""
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize="medium")
    handles = [Patch(facecolor=colour, edgecolor="0.4", label=label) for label, colour in colours.items()]
    # As many in a line as fit a narrow figure.
    fitting = int(figure.get_figwidth() // LEGEND_ENTRY)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), fitting), frameon=False)


def _colour_probability(probability: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Black is 0, pale yellow is 1."""
    return colormaps["inferno"](probability)[..., :3]


def colour_errors(
    scan: Float[np.ndarray, "h w"],
    truth: UInt8[np.ndarray, "h w"],
    predicted: UInt8[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w 3"]:
    """Where reference mask and prediction differ, on a scan that is dark enough for every colour to be seen."""
    tumour = truth > 0
    marked = predicted > 0
    missed = tumour & ~marked
    invented = ~tumour & marked
    mistaken = tumour & marked & (truth != predicted)
    image = 0.35 * np.repeat(grey(scan)[..., None], 3, axis=-1)
    # In the order of ERRORS.
    for colour, mask in zip(ERRORS.values(), (missed, invented, mistaken), strict=True):
        image[mask] = to_rgb(colour)
    return image


def paint(
    plane: Float[np.ndarray, "h w"],
    labels: UInt8[np.ndarray, "h w"],
    opacity: float = 0.55,
) -> Float[np.ndarray, "h w 3"]:
    """A plane in grey with its labels in colour over it."""
    image = np.repeat(grey(plane)[..., None], 3, axis=-1)
    for label in np.unique(labels[labels > 0]):
        # Label 1 is the first target. Of more labels than colours, some share one.
        colour = TARGETS[(label - 1) % len(TARGETS)]
        mask = labels == label
        over = opacity * np.array(to_rgb(colour))
        image[mask] = (1 - opacity) * image[mask] + over
    return image


def grey(plane: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """0 to 1 from the background to the brightest percent; standardised planes are 0 outside the brain."""
    plane = plane.astype(np.float32)
    brain = plane[plane != 0]
    if not brain.size:
        return np.zeros_like(plane)
    # Percentiles, because a few bright pixels would leave the rest dark.
    low, high = np.percentile(brain, [0.5, 99.5])
    # The minimum keeps a plane of one value from a division by 0.
    brightness = np.clip((plane - low) / max(high - low, 1e-6), 0, 1)
    # The darkest brain is lighter than the background.
    grey = 0.08 + 0.92 * brightness
    return np.where(plane != 0, grey, 0)


def show(axes: Axes, image: np.ndarray) -> None:
    """As a radiologist sees it: the patient's front on top, their right on the left, both sides marked.

    Rows of prepared slices run to the patient's left, columns to the back (`orientation` in the store's description).
    """
    axes.imshow(np.swapaxes(image, 0, 1), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    mark_sides(axes)


def mark_sides(axes: Axes) -> None:
    """R and L at the edges of a picture whose left edge is the patient's right."""
    style: dict[str, Any] = {
        "color": "white",
        "fontsize": "x-small",
        "va": "center",
        # Positions are parts of the axes, whatever the size of the picture.
        "transform": axes.transAxes,
    }
    axes.text(0.02, 0.5, "R", ha="left", **style)
    axes.text(0.98, 0.5, "L", ha="right", **style)


def finish(figure: Figure, title: str) -> Figure:
    """The figure with its title."""
    figure.suptitle(title, fontsize="medium")
    return figure


def choose_patients(dice: Mapping[str, float]) -> dict[str, str]:
    """The best, the median and the worst patient by a score: patient > what it stands for."""
    # Names break ties, so that the choice doesn't depend on the order of patients.
    ranked = sorted(dice, key=lambda patient: (dice[patient], patient))
    if len(ranked) <= 2:
        # Of two patients none is the median, and a single one is the best.
        return dict(zip(reversed(ranked), ("best", "worst"), strict=False))
    middle = len(ranked) // 2
    return {ranked[-1]: "best", ranked[middle]: "median", ranked[0]: "worst"}
