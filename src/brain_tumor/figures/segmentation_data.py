"""Figures of segmentation data: who the patients are, where their tumours lie, what a network sees of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float16, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from brain_tumor.figures.segmentation import TISSUE_COLOURS, paint

BAND = 12
"""Height in pixels of the title above a film."""


@dataclass(frozen=True)
class Animation:
    """Frames of a film, shown one after the other for ever."""

    frames: UInt8[np.ndarray, "n h w 3"]
    milliseconds: int = 60


def draw_patients(patients: pd.DataFrame, tissues: Sequence[str], title: str) -> Figure:
    """Patients of each grade, and the volume of each tissue in each patient."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    grades = patients["grade"].replace("", "not known").value_counts()
    bars = left.bar(grades.index, grades, color="0.6")
    left.bar_label(bars)
    left.margins(y=0.12)
    left.set(ylabel="patients")
    left.yaxis.set_major_locator(MaxNLocator(integer=True))
    rng = np.random.default_rng(0)
    for k, tissue in enumerate(tissues):
        volume = patients[f"{tissue}_ml"]
        right.scatter(
            k + rng.uniform(-0.25, 0.25, len(volume)),
            volume,
            s=12,
            alpha=0.6,
            color=TISSUE_COLOURS[k % len(TISSUE_COLOURS)],
        )
        right.hlines(volume.median(), k - 0.35, k + 0.35, color="0.2")
    right.set(xticks=range(len(tissues)), xticklabels=tissues, ylabel="millilitres")
    right.set_yscale("symlog", linthresh=1)
    right.set_ylim(-0.2, None)
    right.margins(y=0.1)
    figure.suptitle(title, fontsize="medium")
    return figure


def draw_heights(index: pd.DataFrame, tissues: Sequence[str], title: str) -> Figure:
    """How many slices there are at each height, and how many of them show each tissue."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    used = index[index["excluded"] == ""]
    heights = np.arange(used["slice"].min(), used["slice"].max() + 1)
    count = used["slice"].value_counts().reindex(heights, fill_value=0)
    axes.fill_between(heights, count, step="mid", color="0.88", label="slices")
    for k, tissue in enumerate(tissues):
        shown = used.loc[used[f"{tissue}_pixels"] > 0, "slice"].value_counts().reindex(heights, fill_value=0)
        axes.step(heights, shown, where="mid", color=TISSUE_COLOURS[k % len(TISSUE_COLOURS)], label=tissue)
    axes.set(xlabel="slice, from the feet up", ylabel="slices in use", ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="upper left", ncols=len(tissues) + 1)
    figure.suptitle(title, fontsize="medium")
    return figure


def draw_histograms(
    image: Float16[np.ndarray, "n m s s"],
    labels: UInt8[np.ndarray, "n s s"],
    modalities: Sequence[str],
    tissues: Sequence[str],
    title: str,
) -> Figure:
    """Standardised intensities of healthy brain and of each tissue, a panel for each modality."""
    figure = Figure(figsize=(2.6 * len(modalities), 2.8), layout="constrained")
    bins = np.linspace(-4, 5, 91)
    for m, (axes, modality) in enumerate(
        zip(figure.subplots(1, len(modalities), squeeze=False)[0], modalities, strict=True)
    ):
        plane = image[:, m].astype(np.float32)
        axes.hist(plane[(labels == 0) & (plane != 0)], bins, density=True, color="0.8", label="healthy")
        for k, tissue in enumerate(tissues, start=1):
            values = plane[labels == k]
            if values.size:
                axes.hist(
                    values,
                    bins,
                    density=True,
                    histtype="step",
                    color=TISSUE_COLOURS[(k - 1) % len(TISSUE_COLOURS)],
                    label=tissue,
                )
        axes.set(title=modality, xlabel="deviations from the brain's mean", yticks=[])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(tissues) + 1, frameon=False)
    figure.suptitle(title, fontsize="medium")
    return figure


def draw_montage(
    image: Float16[np.ndarray, "n m s s"],
    labels: UInt8[np.ndarray, "n s s"],
    names: Sequence[str],
    title: str,
    columns: int = 6,
) -> Figure:
    """One slice of each patient in the first modality, its tissues in colour."""
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows + 0.4), layout="constrained")
    for k, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if k < len(names):
            axes.imshow(np.swapaxes(paint(image[k, 0].astype(np.float32), labels[k]), 0, 1))
            axes.set_title(names[k], fontsize=7)
    figure.suptitle(title, fontsize="medium")
    return figure


def animate_patient(
    image: Float16[np.ndarray, "n m s s"], labels: UInt8[np.ndarray, "n s s"], shown: Mapping[str, int], title: str
) -> Animation:
    """A patient's slices from the feet up, under the title.

    Each modality shown, then the tissues in colour over the first.

    Args:
        shown: modality > its channel.
    """
    nothing = np.zeros_like(labels[0])
    frames = []
    for planes, mask in zip(image.astype(np.float32), labels, strict=True):
        panels = [paint(planes[channel], nothing) for channel in shown.values()] + [
            paint(planes[next(iter(shown.values()))], mask)
        ]
        frames.append(np.concatenate([np.swapaxes(panel, 0, 1) for panel in panels], axis=1))
    film = (np.stack(frames) * 255).round().astype(np.uint8)
    band = Image.new("RGB", (film.shape[2], BAND))
    ImageDraw.Draw(band).text((2, 0), title, fill="white")
    return Animation(
        np.concatenate([np.broadcast_to(np.asarray(band), (len(film), *np.asarray(band).shape)), film], axis=1)
    )
