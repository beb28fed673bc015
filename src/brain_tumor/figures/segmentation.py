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

Box = tuple[slice, slice]
"""Rows and columns of a slice."""


@dataclass(frozen=True)
class Example:
    """One prepared slice of a patient; reference mask and prediction are labels, probabilities in steps of 1/255."""

    title: str
    image: Float[np.ndarray, "m s s"]
    truth: UInt8[np.ndarray, "s s"]
    probability: UInt8[np.ndarray, "k s s"]
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
        scores.plot(log["epoch"], log[f"{DICE}{target}"], marker=".", color=colour, label=target)
    for epoch in sorted(set(kept)):
        scores.axvline(epoch, color="0.6", linestyle=":", label=f"kept: {epoch:.0f}")
    scores.set(xlabel="epoch", ylabel="Dice, pooled over validation slices", ylim=(0, 1))
    place_legend_above(scores)
    return _finish(figure, title)


def draw_losses(axes: Axes, log: pd.DataFrame) -> None:
    """Loss of training and validation over the epochs."""
    for name, colour in (("train_loss", "0.6"), ("validation_loss", INK)):
        axes.plot(log["epoch"], log[name], marker=".", color=colour, label=name.removesuffix("_loss"))
    axes.set(xlabel="epoch", ylabel="loss")
    losses = log[["train_loss", "validation_loss"]].to_numpy()
    # untrained weights can give a loss that presses all later epochs onto the axis
    if len(losses) > 1 and losses.min() > 0 and losses[0].max() > STEEP * losses[1:].max():
        axes.set_yscale("log")
        axes.set_ylabel("loss, logarithmic axis")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    place_legend_above(axes)


def place_legend_above(axes: Axes) -> None:
    """A legend in one line between title and axes, where no data can be."""
    columns = len(axes.get_legend_handles_labels()[1])
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(frameon=False, fontsize="small", ncols=max(columns, 1), columnspacing=1, handlelength=1.2, **place)


def draw_scores(scores: pd.DataFrame, title: str) -> Figure:
    """Dice of every patient, a column for each target; the bar is the mean.

    Args:
        scores: rows `patient`, `target`, `metric`, `value`.
    """
    dice = scores[scores["metric"] == "dice"]
    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    targets = colour_targets(dice["target"].unique())
    for k, (target, colour) in enumerate(targets.items()):
        values = dice.loc[dice["target"] == target, "value"]
        axes.scatter(k + rng.uniform(-0.15, 0.15, len(values)), values, s=18, alpha=0.7, color=colour)
        axes.hlines(values.mean(), k - 0.3, k + 0.3, color="0.2")
    axes.set(xticks=range(len(targets)), xticklabels=targets, ylim=(-0.03, 1.03), ylabel="Dice of a patient's volume")
    axes.grid(axis="y", alpha=0.3)
    return _finish(figure, title)


def draw_examples(examples: Sequence[Example], modalities: Sequence[str], tissues: Sequence[str], title: str) -> Figure:
    """A row for each example: two modalities, reference mask, probability of any tumour, prediction, errors."""
    shown = choose_modalities(modalities)
    columns = [*shown, "reference mask", "probability of tumour", "prediction", "errors"]
    boxes = frame_brains([example.image for example in examples])
    figure, grid = _lay_grid(boxes, len(columns))
    for row, example, box in zip(grid, examples, boxes, strict=True):
        scan, truth, predicted = example.image[0][box], example.truth[box], example.predicted[box]
        pictures = [
            *(grey(example.image[k])[box] for k in shown.values()),
            paint(scan, truth),
            _colour_probability(example.probability.max(0)[box]),
            paint(scan, predicted),
            _colour_errors(scan, truth, predicted),
        ]
        for axes, picture in zip(row, pictures, strict=True):
            show(axes, picture)
        row[0].set_ylabel(example.title, fontsize="small")
    _draw_scale(figure, grid[-1, columns.index("probability of tumour")])
    _name(figure, grid, columns, colour_targets(tissues) | ERRORS)
    return _finish(figure, title)


def _draw_scale(figure: Figure, axes: Axes) -> None:
    """The colours of 0 and 1 along the lower edge of a picture of probabilities, which is black there."""
    place = axes.inset_axes((0.2, 0.07, 0.6, 0.035))
    scale = figure.colorbar(ScalarMappable(Normalize(0, 1), "inferno"), cax=place, orientation="horizontal")
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
    columns = [*shown, "prediction", *(["reference mask"] if compared else [])]
    boxes = frame_brains([image for image, _, _ in scans.values()])
    figure, grid = _lay_grid(boxes, len(columns))
    for row, box, (name, (image, *masks)) in zip(grid, boxes, scans.items(), strict=True):
        overlays = [paint(image[0][box], labels[box]) for labels in masks if labels is not None]
        for axes, picture in zip(row, [*(grey(image[k])[box] for k in shown.values()), *overlays], strict=False):
            show(axes, picture)
        if compared and masks[-1] is None:
            row[-1].axis("off")
        row[0].set_ylabel(name, fontsize="small")
    _name(figure, grid, columns, colour_targets(tissues))
    return _finish(figure, title)


def choose_modalities(modalities: Sequence[str]) -> dict[str, int]:
    """The two modalities that figures show, and their channels.

    The first, and the one with contrast agent (of BraTS FLAIR and T1ce), else the last.
    """
    second = min(2, len(modalities) - 1)
    return {modalities[k]: k for k in sorted({0, second})}


def frame_brains(images: Sequence[np.ndarray], margin: int = 2) -> list[Box]:
    """A box around the brain of each image (m, h, w); all of one size, as far as the images allow."""
    spans = [[_find_span((image != 0).any(0).any(1 - axis)) for axis in (0, 1)] for image in images]
    sides = [max(span[axis][1] - span[axis][0] for span in spans) + 2 * margin for axis in (0, 1)]
    boxes = []
    for image, span in zip(images, spans, strict=True):
        rows, columns = (_widen(span[axis], sides[axis], image.shape[1 + axis]) for axis in (0, 1))
        boxes.append((rows, columns))
    return boxes


def _find_span(shown: np.ndarray) -> tuple[int, int]:
    """From the first to after the last that is True; all where none is."""
    places = np.flatnonzero(shown)
    return (int(places[0]), int(places[-1]) + 1) if places.size else (0, len(shown))


def _widen(span: tuple[int, int], side: int, length: int) -> slice:
    """As many rows around the middle of a span, inside the image."""
    start = min(max((span[0] + span[1] - side) // 2, 0), max(length - side, 0))
    return slice(start, min(start + side, length))


def _lay_grid(boxes: Sequence[Box], columns: int) -> tuple[Figure, np.ndarray]:
    """A row of axes for each box, about as high as the box is when it is shown upright."""
    width, height = (max(box[axis].stop - box[axis].start for box in boxes) for axis in (0, 1))
    figure = Figure(figsize=(SIDE * columns, SIDE * min(height / width, 2) * len(boxes) + 1), layout="constrained")
    return figure, figure.subplots(len(boxes), columns, squeeze=False)


def _name(figure: Figure, grid: np.ndarray, columns: Sequence[str], colours: Mapping[str, str]) -> None:
    """Headings of the columns, and a legend of the colours below."""
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize="medium")
    handles = [Patch(facecolor=colour, edgecolor="0.4", label=label) for label, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _colour_probability(probability: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Black is 0, pale yellow is 1."""
    return colormaps["inferno"](probability)[..., :3]


def _colour_errors(
    scan: Float[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    """Where reference mask and prediction differ, on a scan that is dark enough for every colour to be seen."""
    tumour, marked = truth > 0, predicted > 0
    kinds = (tumour & ~marked, ~tumour & marked, tumour & marked & (truth != predicted))
    image = 0.35 * np.repeat(grey(scan)[..., None], 3, axis=-1)
    for colour, mask in zip(ERRORS.values(), kinds, strict=True):
        image[mask] = to_rgb(colour)
    return image


def paint(
    plane: Float[np.ndarray, "h w"], labels: UInt8[np.ndarray, "h w"], opacity: float = 0.55
) -> Float[np.ndarray, "h w 3"]:
    """A plane in grey with its labels in colour over it."""
    image = np.repeat(grey(plane)[..., None], 3, axis=-1)
    for label in np.unique(labels[labels > 0]):
        colour = TARGETS[(label - 1) % len(TARGETS)]
        image[labels == label] = (1 - opacity) * image[labels == label] + opacity * np.array(to_rgb(colour))
    return image


def grey(plane: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """0 to 1 from the background to the brightest percent; standardised planes are 0 outside the brain."""
    plane = plane.astype(np.float32)
    brain = plane[plane != 0]
    if not brain.size:
        return np.zeros_like(plane)
    low, high = np.percentile(brain, [0.5, 99.5])
    grey = 0.08 + 0.92 * np.clip((plane - low) / max(high - low, 1e-6), 0, 1)
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
    style: dict[str, Any] = {"color": "white", "fontsize": "x-small", "va": "center", "transform": axes.transAxes}
    axes.text(0.02, 0.5, "R", ha="left", **style)
    axes.text(0.98, 0.5, "L", ha="right", **style)


def _finish(figure: Figure, title: str) -> Figure:
    figure.suptitle(title, fontsize="medium")
    return figure


def choose_patients(dice: Mapping[str, float]) -> dict[str, str]:
    """The best, the median and the worst patient by a score: patient > what it stands for."""
    ranked = sorted(dice, key=lambda patient: (dice[patient], patient))
    chosen = {ranked[-1]: "best", ranked[len(ranked) // 2]: "median", ranked[0]: "worst"}
    return chosen if len(ranked) > 2 else dict(zip(reversed(ranked), ("best", "worst"), strict=False))
