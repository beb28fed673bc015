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

from brain_tumor.data.common.sets import TRAIN, VALIDATION
from brain_tumor.data.images.split import name_fold
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
    used = index[index["excluded"] == ""]
    used = used.assign(copied=used["file"].isin(duplicates["file"]))
    _draw_published(published, used, folders, classes)
    _draw_sets(sets, splits, classes)
    for axes in (published, sets):
        place_legend_above(axes)
        # The legend is between the title and the axes.
        axes.set_title(axes.get_title(), pad=24, fontsize="medium")
        # The margin holds the numbers above the bars.
        axes.margins(y=0.1)
    figure.suptitle(title, fontsize="medium")
    return figure


def _draw_published(
    axes: Axes,
    used: pd.DataFrame,
    folders: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Images of each class, a bar for each folder; the part that has copies is hatched."""
    for k, folder in enumerate(folders):
        by_class = used[used["folder"] == folder].groupby("class")["copied"]
        # The sum of a true-or-false column is how often it is true.
        part = by_class.agg(["size", "sum"]).reindex(classes, fill_value=0)
        place = np.arange(len(part)) + 0.4 * k - 0.2
        bars = axes.bar(place, part["size"], 0.36, color=("0.55", "0.78")[k], label=folder)
        axes.bar_label(bars, padding=2, fontsize="x-small")
        axes.bar(
            place,
            part["sum"],
            0.36,
            color="none",
            edgecolor=VERMILLION,
            hatch="///",
            # Once in the legend, not once for each folder.
            label="has duplicates" if k else None,
        )
    axes.set(
        ylabel="images",
        title="as published",
        xticks=range(len(classes)),
        xticklabels=classes,
    )


def _draw_sets(axes: Axes, splits: pd.DataFrame, classes: Sequence[str]) -> None:
    """Images of each class, a bar for each set or fold."""
    table = _count_sets(splits).reindex(index=list(classes), fill_value=0)
    bars_of_class = len(table.columns)
    width = 0.8 / bars_of_class
    folds = [str(grey) for grey in np.linspace(0.85, 0.35, bars_of_class)]
    colours = ["0.55", BLUE, "0.8"] if TRAIN in table else folds
    size = "x-small" if bars_of_class <= 3 else "xx-small"
    for k, (name, counts) in enumerate(table.items()):
        place = np.arange(len(counts)) + width * (k - (bars_of_class - 1) / 2)
        bars = axes.bar(place, counts, 0.93 * width, color=colours[k], label=name)
        axes.bar_label(bars, padding=2, fontsize=size)
    axes.set(title="in each set", xticks=range(len(classes)), xticklabels=classes)


def _count_sets(splits: pd.DataFrame) -> pd.DataFrame:
    """Images of each class (rows) in each set, or in each fold (columns)."""
    if splits["fold"].max() >= 0:
        used = splits[splits["fold"] >= 0]
        counts = used.groupby(["class", "fold"]).size().unstack(fill_value=0)
        return counts.rename(columns=name_fold)
    # The official test set isn't shown: the published folders have it.
    test = splits[splits["deduplicated_test"]].assign(split="deduplicated test")
    shown = pd.concat([splits[~splits["official_test"]], test])
    counts = shown.groupby(["class", "split"]).size().unstack(fill_value=0)
    return counts.reindex(columns=[TRAIN, VALIDATION, "deduplicated test"], fill_value=0)


def choose_borders(index: pd.DataFrame) -> list[str]:
    """Files for the gallery: those with a note, those that lose most, and some at random."""
    used = index[index["excluded"] == ""]
    height = used["bottom"] - used["top"]
    width = used["right"] - used["left"]
    kept = height * width / (used["width"] * used["height"])
    noted = used.loc[used["note"] != "", "file"].head(BORDERS // 6)
    most = used["file"][kept.sort_values().index].head(BORDERS // 3)
    others = used[~used["file"].isin([*noted, *most])]
    # The seed is fixed: the same images give the same figure.
    rest = others.sample(frac=1, random_state=0)["file"]
    # A file with a note may also be among those that lose most.
    files = dict.fromkeys([*noted, *most, *rest])
    return list(files)[:BORDERS]


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
        row, pair = divmod(k, columns)
        before, after = grid[row, 2 * pair : 2 * pair + 2]
        top, bottom, left, right = image.box
        _show(before, image.before)
        # Matplotlib's first pixel begins at -0.5.
        corner = (left - 0.5, top - 0.5)
        before.add_patch(
            Rectangle(
                corner,
                right - left,
                bottom - top,
                fill=False,
                color=YELLOW,
                lw=1.2,
            )
        )
        before.set_title(image.name, fontsize=6, loc="left")
        _show(after, image.after)
    figure.suptitle(f"{title}: before and after", fontsize="medium")
    return figure


def draw_similarity(pairs: pd.DataFrame, threshold: float, title: str) -> Figure:
    """How alike in detail the compared pairs are, identical pairs excluded; near-duplicates lie right of the line."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    # Identical pairs have a similarity of 1 and a distance of 0.
    different = (pairs["similarity"] < 1) | (pairs["distance"] > 0)
    near = pairs[(pairs["similarity"] > 0) & different]
    axes.hist(near["similarity"], np.linspace(0, 1, 101).tolist(), color="0.6")
    axes.axvline(threshold, color=VERMILLION, label=f"threshold {threshold}")
    axes.set(xlabel="correlation of the fine detail after alignment", ylabel="pairs", xlim=(0, 1))
    # Near-duplicates are few beside all pairs; symlog, because bins may hold none.
    axes.set_yscale("symlog", linthresh=10)
    place_legend_above(axes)
    figure.suptitle(title, fontsize="medium")
    return figure


def choose_pairs(pairs: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Pairs on both sides of the threshold, spread evenly over the similarities near it, in their order."""
    near = pairs[(pairs["similarity"] - threshold).abs() <= SHOWN_AROUND].sort_values("similarity")
    if len(near) <= PAIRS:
        return near
    # Steps of similarity and not ranks: dissimilar pairs are the most, and would fill the figure.
    steps = near.groupby(pd.cut(near["similarity"], PAIRS), observed=True)
    ends = pd.concat([steps.head(1), steps.tail(1)])
    # A step of one pair gives it twice.
    chosen = ends.drop_duplicates().sort_values("similarity")
    spaced = np.linspace(0, len(chosen) - 1, min(PAIRS, len(chosen)))
    return chosen.iloc[np.unique(spaced.astype(int))]


def draw_pairs(
    pairs: Sequence[tuple[str, UInt8[np.ndarray, "s s"], UInt8[np.ndarray, "s s"]]],
    title: str,
    columns: int = 4,
) -> Figure:
    """Pairs side by side, the second laid like the first."""
    rows = max(1, -(-len(pairs) // columns))
    figure = Figure(figsize=(3 * columns, 1.85 * rows + 0.4), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    # The last row may have more panels than pairs.
    for axes, (name, first, second) in zip(figure.axes, pairs, strict=False):
        _show(axes, np.concatenate([first, second], axis=1))
        axes.set_title(name, fontsize=6, loc="left")
    figure.suptitle(f"{title}: pairs by similarity, from below the threshold to above it", fontsize="medium")
    return figure


def _show(axes: Axes, image: UInt8[np.ndarray, "h w"]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
