"""Figures of segmentation data: who the patients are, where their tumours lie, what a network sees of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float16, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from brain_tumor.figures.palette import colour_targets
from brain_tumor.figures.segmentation import choose_modalities, frame_brains, paint, place_legend_above, show

BAND = 16
"""Height in pixels of a line of words above a film."""

PANEL = 256
"""Height in pixels of a panel of a film, at least."""


@dataclass(frozen=True)
class Animation:
    """Frames of a film, shown one after the other for ever."""

    frames: UInt8[np.ndarray, "n h w 3"]
    milliseconds: int = 60


def draw_patients(patients: pd.DataFrame, tissues: Sequence[str], title: str) -> Figure:
    """Volume of each tissue in each patient, and how many patients have each grade where any grade is known."""
    graded = bool((patients["grade"] != "").any())
    if graded:
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        grades, volumes = figure.subplots(1, 2, width_ratios=[1, 2])
        _draw_grades(grades, patients["grade"])
    else:
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        volumes = figure.subplots(1, 1, width_ratios=[1])
    # The seed is fixed: the same patients give the same figure.
    rng = np.random.default_rng(0)
    for k, (tissue, colour) in enumerate(colour_targets(tissues).items()):
        volume = patients[f"{tissue}_ml"]
        x = k + rng.uniform(-0.25, 0.25, len(volume))
        volumes.scatter(x, volume, s=12, alpha=0.6, color=colour)
        volumes.hlines(volume.median(), k - 0.35, k + 0.35, color="0.2")
    volumes.set(xticks=range(len(tissues)), xticklabels=tissues, ylabel="millilitres")
    # Volumes span powers of ten, and some patients lack a tissue: 0 has no logarithm.
    volumes.set_yscale("symlog", linthresh=1)
    # The axis begins below 0, so that dots at 0 aren't cut in half.
    volumes.set_ylim(-0.2, None)
    volumes.margins(y=0.1)
    figure.suptitle(title, fontsize="medium")
    return figure


def _draw_grades(axes: Axes, grade: pd.Series) -> None:
    grades = grade.replace("", "not known").value_counts()
    bars = axes.bar(grades.index, grades, color="0.6")
    axes.bar_label(bars)
    # The margin holds the numbers above the bars.
    axes.margins(y=0.12)
    axes.set(ylabel="patients")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def draw_heights(index: pd.DataFrame, tissues: Sequence[str], title: str) -> Figure:
    """How many slices there are at each height, and how many of them show each tissue.

    A bar is as wide as the usual distance between slices in use.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    used = index[index["excluded"] == ""]
    count = used["slice"].value_counts().sort_index()
    heights = count.index.to_numpy()
    # The median, because slices may be missing here and there.
    step = float(np.median(np.diff(heights))) if len(heights) > 1 else 1.0
    axes.bar(heights, count, step, color="0.88", label="slices")
    for tissue, colour in colour_targets(tissues).items():
        slices = used.loc[used[f"{tissue}_pixels"] > 0, "slice"]
        # Heights without the tissue are 0 and not absent: the line goes down to them.
        shown = slices.value_counts().reindex(heights, fill_value=0)
        axes.plot(heights, shown, color=colour, marker=".", linewidth=1.8, label=tissue)
    axes.set(xlabel="slice, from the feet up", ylabel="slices in use", ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    place_legend_above(axes)
    figure.suptitle(title, fontsize="medium")
    return figure


def draw_histograms(
    image: Float16[np.ndarray, "n m h w"],
    labels: UInt8[np.ndarray, "n h w"],
    modalities: Sequence[str],
    tissues: Sequence[str],
    title: str,
) -> Figure:
    """Standardised intensities of healthy brain and of each tissue, a panel for each modality."""
    figure = Figure(figsize=(2.6 * len(modalities), 2.8), layout="constrained")
    panels = figure.subplots(1, len(modalities), squeeze=False)[0]
    # Nearly all standardised intensities are between these standard deviations.
    bins = np.linspace(-4, 5, 91)
    for channel, (axes, modality) in enumerate(zip(panels, modalities, strict=True)):
        plane = image[:, channel].astype(np.float32)
        # Standardised slices are 0 outside the brain.
        healthy = (labels == 0) & (plane != 0)
        axes.hist(plane[healthy], bins, density=True, color="0.8", label="healthy")
        for k, (tissue, colour) in enumerate(colour_targets(tissues).items(), start=1):
            values = plane[labels == k]
            if values.size:
                axes.hist(
                    values,
                    bins,
                    density=True,
                    histtype="step",
                    linewidth=1.5,
                    color=colour,
                    label=tissue,
                )
        axes.set(title=modality, xlabel="SD from the brain's mean", yticks=[])
    # All panels have the same tissues: the legend of the last one serves all.
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=len(tissues) + 1,
        frameon=False,
    )
    figure.suptitle(title, fontsize="medium")
    return figure


def draw_montage(
    image: Float16[np.ndarray, "n m h w"],
    labels: UInt8[np.ndarray, "n h w"],
    names: Sequence[str],
    title: str,
    columns: int = 6,
) -> Figure:
    """One slice of each patient in the first modality, its tissues in colour."""
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2 * columns, 2.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    boxes = frame_brains(list(image))
    for axes, plane, mask, box, name in zip(panels, image, labels, boxes, names, strict=False):
        scan = plane[0][box].astype(np.float32)
        show(axes, paint(scan, mask[box]))
        axes.set_title(name, fontsize="x-small")
    for axes in figure.axes[len(names) :]:
        axes.axis("off")
    figure.suptitle(title, fontsize="medium")
    return figure


def animate_patient(
    image: Float16[np.ndarray, "n m h w"],
    masks: Mapping[str, UInt8[np.ndarray, "n h w"]],
    modalities: Sequence[str],
    numbers: Sequence[int],
    title: str,
) -> Animation:
    """A patient's slices from the feet up: two modalities, then each mask in colour over the first.

    Args:
        masks: name > labels.
        modalities: names of the image's channels.
        numbers: of the slices.
    """
    shown = choose_modalities(modalities)
    channels = list(shown.values())
    # One box for all slices, so that the film doesn't jump: every plane counts as a modality of one image.
    every_plane = image.transpose(1, 0, 2, 3).reshape(-1, *image.shape[2:])
    (box,) = frame_brains([every_plane])
    nothing = np.zeros_like(image[0, 0], np.uint8)[box]
    frames = []
    for k, planes in enumerate(image.astype(np.float32)):
        first = planes[channels[0]][box]
        panels = [paint(planes[channel][box], nothing) for channel in channels]
        panels += [paint(first, labels[k][box]) for labels in masks.values()]
        upright = np.concatenate([_enlarge(panel) for panel in panels], axis=1)
        panel_width = upright.shape[1] // len(panels)
        places = panel_width * np.arange(len(panels))
        words = dict(zip(places.tolist(), [*shown, *masks], strict=True))
        heading = _write_band({0: f"{title}, slice {numbers[k]}"}, upright)
        names = _write_band(words, upright)
        frames.append(np.concatenate([heading, names, upright], axis=0))
    return Animation(np.stack(frames), 200)


def _enlarge(picture: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """A panel of a film as a radiologist sees it, the patient's sides marked."""
    # Rows run to the patient's left, and are the columns of an upright picture.
    values = (np.swapaxes(picture, 0, 1) * 255).round()
    upright = Image.fromarray(values.astype(np.uint8))
    scale = max(1, -(-PANEL // upright.height))
    size = (upright.width * scale, upright.height * scale)
    panel = upright.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(panel)
    middle = panel.height // 2
    draw.text((3, middle), "R", fill="white")
    # Pillow places the left edge of a letter, so that L needs its own width besides the margin.
    draw.text((panel.width - 9, middle), "L", fill="white")
    return np.asarray(panel)


def _write_band(words: Mapping[int, str], below: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """A black band as wide as a picture, with words at these columns."""
    band = Image.new("RGB", (below.shape[1], BAND))
    for column, text in words.items():
        ImageDraw.Draw(band).text((column + 3, 2), text, fill="white")
    return np.asarray(band)
