"""Figures of classification data.

How many images there are and how many are copies, what was cut away, what was taken for a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from brain_tumor.figures.palette import BLUE, VERMILLION, YELLOW
from brain_tumor.figures.segmentation import place_legend_above

BORDERS, PAIRS = 24, 32
"""Images, and pairs, that the galleries show."""

SHOWN_AROUND = 0.2
"""Pairs are shown whose similarity is this near to the threshold."""


def draw_counts(
    index: pd.DataFrame,
    duplicates: pd.DataFrame,
    splits: pd.DataFrame,
    folders: Sequence[str],
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Images of each class in each folder, how many have copies; then what is left in each set."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    published, sets = figure.subplots(1, 2)
    used = index[index["excluded"] == ""].assign(copied=lambda rows: rows["file"].isin(duplicates["file"]))
    for k, folder in enumerate(folders):
        part = (
            used[used["folder"] == folder]
            .groupby("class")["copied"]
            .agg(["size", "sum"])
            .reindex(classes, fill_value=0)
        )
        place = np.arange(len(part)) + 0.4 * k - 0.2
        published.bar_label(
            published.bar(place, part["size"], 0.36, color=("0.55", "0.78")[k], label=folder),
            padding=2,
            fontsize="x-small",
        )
        published.bar(
            place,
            part["sum"],
            0.36,
            color="none",
            edgecolor=VERMILLION,
            hatch="///",
            label="has duplicates" if k else None,
        )
    published.set(ylabel="images", title="as published", xticks=range(len(classes)), xticklabels=classes)
    table = _count_sets(splits).reindex(index=list(classes), fill_value=0)
    width = 0.8 / len(table.columns)
    colours = (
        ("0.55", BLUE, "0.8") if len(table.columns) == 3 else [str(0.85 - 0.1 * k) for k in range(len(table.columns))]
    )
    for k, (name, counts) in enumerate(table.items()):
        place = np.arange(len(counts)) + width * (k - (len(table.columns) - 1) / 2)
        bars = sets.bar(place, counts, 0.93 * width, color=colours[k], label=name)
        sets.bar_label(bars, padding=2, fontsize="xx-small" if len(table.columns) > 3 else "x-small")
    sets.set(title="in each set", xticks=range(len(classes)), xticklabels=classes)
    for axes in (published, sets):
        place_legend_above(axes)
        axes.set_title(axes.get_title(), pad=24, fontsize="medium")
        axes.margins(y=0.1)
    figure.suptitle(title, fontsize="medium")
    return figure


def _count_sets(splits: pd.DataFrame) -> pd.DataFrame:
    """Images of each class (rows) in each set, or in each fold (columns)."""
    if splits["fold"].max() >= 0:
        used = splits[splits["fold"] >= 0]
        counts = used.groupby(["class", "fold"]).size().unstack(fill_value=0)
        return counts.rename(columns=lambda fold: f"fold {fold + 1}")
    test = splits[splits["deduplicated_test"]].assign(split="deduplicated test")
    shown = pd.concat([splits[~splits["official_test"]], test])
    counts = shown.groupby(["class", "split"]).size().unstack(fill_value=0)
    return counts.reindex(columns=["train", "validation", "deduplicated test"], fill_value=0)


def choose_borders(index: pd.DataFrame) -> list[str]:
    """Files for the gallery: those with a note, those that lose most, and some at random."""
    used = index[index["excluded"] == ""]
    kept = (used["bottom"] - used["top"]) * (used["right"] - used["left"]) / (used["width"] * used["height"])
    noted = used.loc[used["note"] != "", "file"].head(BORDERS // 6)
    most = used["file"][kept.sort_values().index].head(BORDERS // 3)
    rest = used[~used["file"].isin([*noted, *most])].sample(frac=1, random_state=0)["file"]
    return [*dict.fromkeys([*noted, *most, *rest])][:BORDERS]


@dataclass(frozen=True)
class Cut:
    """An image as published, the box (top, bottom, left, right) around what is kept of it, and what becomes of that."""

    name: str
    before: UInt8[np.ndarray, "h w"]
    box: tuple[int, int, int, int]
    after: UInt8[np.ndarray, "s s"]


def draw_borders(images: Sequence[Cut], title: str, columns: int = 6) -> Figure:
    """Images before and after their borders are cut away."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.1 * columns, 1.35 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for k, image in enumerate(images):
        before, after = grid[k // columns, 2 * (k % columns)], grid[k // columns, 2 * (k % columns) + 1]
        top, bottom, left, right = image.box
        _show(before, image.before)
        before.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color=YELLOW, lw=1.2)
        )
        before.set_title(image.name, fontsize=6, loc="left")
        _show(after, image.after)
    figure.suptitle(f"{title}: before and after", fontsize="medium")
    return figure


def draw_similarity(pairs: pd.DataFrame, threshold: float, title: str) -> Figure:
    """How alike in detail the compared pairs are, identical pairs excluded; near-duplicates lie right of the line."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    near = pairs[(pairs["similarity"] > 0) & ((pairs["similarity"] < 1) | (pairs["distance"] > 0))]
    axes.hist(near["similarity"], np.linspace(0, 1, 101).tolist(), color="0.6")
    axes.axvline(threshold, color=VERMILLION, label=f"threshold {threshold}")
    axes.set(xlabel="correlation of the fine detail after alignment", ylabel="pairs", xlim=(0, 1))
    axes.set_yscale("symlog", linthresh=10)
    place_legend_above(axes)
    figure.suptitle(title, fontsize="medium")
    return figure


def choose_pairs(pairs: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Pairs on both sides of the threshold, spread evenly over the similarities near it, in their order."""
    near = pairs[(pairs["similarity"] - threshold).abs() <= SHOWN_AROUND].sort_values("similarity")
    if len(near) <= PAIRS:
        return near
    steps = near.groupby(pd.cut(near["similarity"], PAIRS), observed=True)
    chosen = pd.concat([steps.head(1), steps.tail(1)]).drop_duplicates().sort_values("similarity")
    return chosen.iloc[np.unique(np.linspace(0, len(chosen) - 1, min(PAIRS, len(chosen))).astype(int))]


def draw_pairs(
    pairs: Sequence[tuple[str, UInt8[np.ndarray, "s s"], UInt8[np.ndarray, "s s"]]], title: str, columns: int = 4
) -> Figure:
    """Pairs side by side, the second laid like the first."""
    rows = max(1, -(-len(pairs) // columns))
    figure = Figure(figsize=(3 * columns, 1.85 * rows + 0.4), layout="constrained")
    for k, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if k < len(pairs):
            name, first, second = pairs[k]
            _show(axes, np.concatenate([first, second], axis=1))
            axes.set_title(name, fontsize=6, loc="left")
    figure.suptitle(f"{title}: pairs by similarity, from below the threshold to above it", fontsize="medium")
    return figure


def _show(axes: Axes, image: UInt8[np.ndarray, "h w"]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
