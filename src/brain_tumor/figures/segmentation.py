"""Figures of segmentation: curves, scores by patient, scans beside truth and prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

TISSUE_COLOURS = ("#3f6fd8", "#37b24d", "#f2b705", "#d6336c", "#845ef7")
"""Of the tissues in the order declared: for BraTS blue necrosis, green oedema, yellow rim."""

ERROR_COLOURS = {"missed": "#e03131", "found where there is none": "#22b8cf", "another tissue": "#be4bdb"}


@dataclass(frozen=True)
class Example:
    """One slice of a patient, prepared, with truth and prediction as labels, and the probability of each tissue in steps of 1/255."""

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
    for name in ("train_loss", "validation_loss"):
        losses.plot(log["epoch"], log[name], marker=".", label=name.removesuffix("_loss"))
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend(frameon=False)
    for column in log.columns[log.columns.str.startswith("validation_dice_")]:
        scores.plot(log["epoch"], log[column], marker=".", label=column.removeprefix("validation_dice_"))
    for epoch in sorted(set(kept)):
        scores.axvline(epoch, color="0.6", linestyle=":", label=f"kept: {epoch:.0f}")
    scores.set(xlabel="epoch", ylabel="Dice, pooled over validation slices", ylim=(0, 1))
    scores.legend(frameon=False, fontsize="small", ncols=2)
    return _finish(figure, title)


def draw_scores(scores: pd.DataFrame, title: str) -> Figure:
    """Dice of every patient, a column for each target; the bar is the mean.

    Args:
        scores: rows `patient`, `target`, `metric`, `value`.
    """
    dice = scores[scores["metric"] == "dice"]
    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    targets = list(dice["target"].unique())
    for k, target in enumerate(targets):
        values = dice.loc[dice["target"] == target, "value"]
        axes.scatter(k + rng.uniform(-0.15, 0.15, len(values)), values, s=18, alpha=0.7)
        axes.hlines(values.mean(), k - 0.3, k + 0.3, color="0.2")
    axes.set(xticks=range(len(targets)), xticklabels=targets, ylim=(-0.03, 1.03), ylabel="Dice of a patient's volume")
    axes.grid(axis="y", alpha=0.3)
    return _finish(figure, title)


def draw_examples(examples: Sequence[Example], modalities: Sequence[str], tissues: Sequence[str], title: str) -> Figure:
    """A row for each example: every modality, the truth over the first, the probability of any tumour, the prediction, and where it is wrong."""
    columns = [*modalities, "truth", "probability", "prediction", "error"]
    figure = Figure(figsize=(1.75 * len(columns), 1.95 * len(examples) + 0.8), layout="constrained")
    grid = figure.subplots(len(examples), len(columns), squeeze=False)
    for row, example in zip(grid, examples, strict=True):
        for axes, plane in zip(row[: len(modalities)], example.image, strict=True):
            show(axes, grey(plane))
        scan = example.image[0]
        pictures = [
            paint(scan, example.truth),
            _heat(example.probability.max(0)),
            paint(scan, example.predicted),
            _errors(example),
        ]
        for axes, picture in zip(row[-4:], pictures, strict=True):
            show(axes, picture)
        row[0].set_ylabel(example.title, fontsize="small")
    _name(figure, grid, columns, dict(zip(tissues, cycle(TISSUE_COLOURS), strict=False)) | ERROR_COLOURS)
    return _finish(figure, title)


def draw_found(
    scans: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    modalities: Sequence[str],
    tissues: Sequence[str],
    title: str,
) -> Figure:
    """A row for each scan: every modality of one slice, and over the first what was found, and what an expert drew if any scan has that.

    Args:
        scans: title > image (m, h, w), labels found and labels drawn (h, w).
    """
    compared = any(drawn is not None for _, _, drawn in scans.values())
    columns = [*modalities, "found", *(["expert"] if compared else [])]
    figure = Figure(figsize=(1.75 * len(columns), 1.95 * len(scans) + 0.8), layout="constrained")
    grid = figure.subplots(len(scans), len(columns), squeeze=False)
    for row, (name, (image, found, drawn)) in zip(grid, scans.items(), strict=True):
        overlays = [paint(image[0], labels) for labels in (found, drawn) if labels is not None]
        for axes, picture in zip(row, [*map(grey, image), *overlays], strict=False):
            show(axes, picture)
        if compared and drawn is None:
            row[-1].axis("off")
        row[0].set_ylabel(name, fontsize="small")
    _name(figure, grid, columns, dict(zip(tissues, cycle(TISSUE_COLOURS), strict=False)))
    return _finish(figure, title)


def _name(figure: Figure, grid: np.ndarray, columns: Sequence[str], colours: Mapping[str, str]) -> None:
    """Headings of the columns, and a legend of the colours below."""
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize="small")
    handles = [Patch(color=colour, label=label) for label, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize="small")


def _heat(probability: UInt8[np.ndarray, "s s"]) -> Float[np.ndarray, "s s 3"]:
    """Black is 0, white is 1."""
    return colormaps["inferno"](probability)[..., :3]


def _errors(example: Example) -> Float[np.ndarray, "s s 3"]:
    """Where truth and prediction differ: missed, found where there is none, or taken for another tissue."""
    there, found = example.truth > 0, example.predicted > 0
    kinds = dict(
        zip(
            ERROR_COLOURS.values(),
            (there & ~found, ~there & found, there & found & (example.truth != example.predicted)),
            strict=True,
        )
    )
    image = np.repeat(grey(example.image[0])[..., None], 3, axis=-1)
    for colour, mask in kinds.items():
        image[mask] = 0.25 * image[mask] + 0.75 * np.array(to_rgb(colour))
    return image


def paint(
    plane: Float[np.ndarray, "h w"], labels: UInt8[np.ndarray, "h w"], opacity: float = 0.55
) -> Float[np.ndarray, "h w 3"]:
    """A plane in grey with its labels in colour over it."""
    image = np.repeat(grey(plane)[..., None], 3, axis=-1)
    for label in np.unique(labels[labels > 0]):
        colour = TISSUE_COLOURS[(label - 1) % len(TISSUE_COLOURS)]
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
    """As a radiologist sees it: the patient's front on top, his right on the left (rows of a scan run to his left)."""
    axes.imshow(np.swapaxes(image, 0, 1), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _finish(figure: Figure, title: str) -> Figure:
    figure.suptitle(title, fontsize="medium")
    return figure


def choose_patients(dice: Mapping[str, float]) -> dict[str, str]:
    """The best, the median and the worst patient by a score: patient > what it stands for."""
    ranked = sorted(dice, key=lambda patient: (dice[patient], patient))
    chosen = {ranked[-1]: "best", ranked[len(ranked) // 2]: "median", ranked[0]: "worst"}
    return chosen if len(ranked) > 2 else dict(zip(reversed(ranked), ("best", "worst"), strict=False))
