"""A figure of what a store holds, whatever it holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from brain_tumor.figures.palette import TARGETS
from brain_tumor.figures.segmentation import grey, mark_sides

COLUMNS, MOST = 7, 10
"""About how many pictures are side by side, and the most of one row.

Two thirds as many lines make a figure that is wider than high.
"""


def draw_store(
    rows: pd.DataFrame, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any], transpose: bool = False
) -> Figure:
    """Every plane of some rows, side by side; numbers where rows have no planes.

    Args:
        rows: what is said of each row; may be empty.
        arrays: (n, ..., h, w), planes to look at, or (n, k), numbers.
        description: of the store; says how the planes are called.
        transpose: scans lie on their side in a store, and stand upright in the figure.
    """
    planes = {
        name: array.reshape(len(array), -1, *array.shape[-2:]) for name, array in arrays.items() if array.ndim > 2
    }
    numbers = {name: array for name, array in arrays.items() if array.ndim == 2}
    length = max((len(array) for array in arrays.values()), default=0)
    if length and planes:
        figure = _draw_planes(rows, planes, description, transpose)
    elif length and numbers:
        figure = _draw_numbers(rows, numbers, description)
    else:
        figure = Figure(figsize=(4, 1), layout="constrained")
    about = [str(description[key]) for key in ("data_set", "network") if key in description]
    about += ["SIMULATED"] if description.get("simulated") else []
    about += [] if length else ["no rows"]
    figure.suptitle(", ".join(about), fontsize="medium")
    return figure


def spread(length: int, most: int) -> Int[np.ndarray, " n"]:
    """Some rows of so many, each from the middle of its share: the first and the last slice of a head show little."""
    count = min(length, most)
    return ((np.arange(count) + 0.5) * length / max(count, 1)).astype(int)


def _draw_planes(
    rows: pd.DataFrame, planes: Mapping[str, np.ndarray], description: Mapping[str, Any], transpose: bool
) -> Figure:
    named = [
        (name, k, title)
        for name, array in planes.items()
        for k, title in enumerate(_names(name, array.shape[1], description))
    ][:MOST]
    length = len(next(iter(planes.values())))
    beside = min(max(1, round(COLUMNS / len(named))), length)  # rows of the store in a line of the figure
    lines = min(-(-length // beside), max(2, round(beside * len(named) / 1.5)))
    shown = spread(length, beside * lines)
    figure = Figure(figsize=(1.5 * beside * len(named), 1.6 * lines + 0.5), layout="constrained")
    grid = figure.subplots(lines, beside * len(named), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for place, row in enumerate(shown.tolist()):
        panels = grid[place // beside, place % beside * len(named) :][: len(named)]
        for axes, (name, k, title) in zip(panels, named, strict=True):
            picture = _colour(name, planes[name][row, k])
            axes.imshow(np.swapaxes(picture, 0, 1) if transpose else picture)
            if transpose:  # only scans lie on their side, and only of them the patient's right is known
                mark_sides(axes)
            if place < beside:
                axes.set_title(title, fontsize="small")
        panels[0].set_ylabel(_label(rows, row), fontsize="x-small")
    return figure


def _colour(name: str, plane: np.ndarray) -> Float[np.ndarray, "h w 3"]:
    """Images in grey, labels in the colours of tissues.

    Anything else runs from black for nothing to white for 1 (255 in bytes) or the highest value.
    """
    if name == "labels":
        return np.array([(0, 0, 0), *map(to_rgb, TARGETS)])[np.minimum(plane, len(TARGETS)).astype(int)]
    share = plane / 255 if plane.dtype == np.uint8 else np.nan_to_num(plane.astype(np.float32))
    if name == "image":
        return np.repeat((share if plane.dtype == np.uint8 else grey(share))[..., None], 3, axis=-1)
    return colormaps["inferno"](share / max(1, share.max()))[..., :3]


def _draw_numbers(rows: pd.DataFrame, numbers: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> Figure:
    length, width = len(next(iter(numbers.values()))), sum(array.shape[1] for array in numbers.values())
    figure = Figure(figsize=(0.9 * width + 2, 0.25 * length + 0.9), layout="constrained")
    panels = figure.subplots(1, len(numbers), squeeze=False)[0]
    for axes, (name, values) in zip(panels, numbers.items(), strict=True):
        _write_numbers(axes, values, _names(name, values.shape[1], description))
        axes.set_xlabel(name, fontsize="small")
        axes.set(yticks=[])
    panels[0].set_yticks(range(length), [_label(rows, row) for row in range(length)], fontsize="x-small")
    return figure


def _write_numbers(axes: Axes, values: np.ndarray, names: Sequence[str]) -> None:
    axes.imshow(np.nan_to_num(values.astype(np.float32)), cmap="Blues", aspect="auto", alpha=0.6)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize="x-small")
    axes.set_xticks(range(len(names)), names, fontsize="small")
    axes.xaxis.tick_top()


def _names(array: str, count: int, description: Mapping[str, Any]) -> Sequence[str]:
    """The first list of as many names that the store gives of itself: its modalities, tissues, classes or maps."""
    if count == 1:
        return [array]
    lists = [
        value
        for value in description.values()
        if isinstance(value, list) and len(value) == count and all(isinstance(name, str) for name in value)
    ]
    return lists[0] if lists else [f"{array} {k}" for k in range(count)]


def _label(rows: pd.DataFrame, row: int) -> str:
    """Which patient and slice, which epoch, or which file a row is of."""
    said = [
        f"{word}{rows[column].iloc[row]}"
        for column, word in (("patient", ""), ("slice", "slice "), ("epoch", "epoch "))
        if column in rows
    ]
    if "file" in rows and not said:
        said = [rows["file"].iloc[row].rsplit("/", 1)[-1][-20:]]
    return "\n".join(said) or f"row {row}"
