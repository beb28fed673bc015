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
    rows: pd.DataFrame,
    arrays: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    transpose: bool = False,
) -> Figure:
    """Every plane of some rows, side by side; numbers where rows have no planes.

    Args:
        rows: what is said of each row; may be empty.
        arrays: (n, ..., h, w), planes to look at, or (n, k), numbers.
        description: of the store; says how the planes are called.
        transpose: scans lie on their side in a store, and stand upright in the figure.
    """
    # Whatever lies between rows and planes, such as modalities, is laid out in one axis.
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
        # An empty store has a figure too, which says so.
        figure = Figure(figsize=(4, 1), layout="constrained")
    about = [str(description[key]) for key in ("data_set", "network") if key in description]
    if description.get("simulated"):
        about.append("SIMULATED")
    if not length:
        about.append("no rows")
    figure.suptitle(", ".join(about), fontsize="medium")
    return figure


def spread(length: int, most: int) -> Int[np.ndarray, " n"]:
    """Some rows of so many, each from the middle of its share: the first and the last slice of a head show little."""
    count = min(length, most)
    # An empty store has no shares to divide by.
    middles = (np.arange(count) + 0.5) * length / max(count, 1)
    return middles.astype(int)


def _draw_planes(
    rows: pd.DataFrame,
    planes: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    transpose: bool,
) -> Figure:
    named = _name_planes(planes, description)
    length = len(next(iter(planes.values())))
    # Rows of the store in a line of the figure.
    beside = min(max(1, round(COLUMNS / len(named))), length)
    columns = beside * len(named)
    # Two thirds as many lines as columns keep the figure wider than high; two lines are always allowed.
    most_lines = max(2, round(columns / 1.5))
    lines = min(-(-length // beside), most_lines)
    shown = spread(length, beside * lines)
    size = (1.5 * beside * len(named), 1.6 * lines + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for place, row in enumerate(shown.tolist()):
        line, group = divmod(place, beside)
        first = group * len(named)
        panels = grid[line, first : first + len(named)]
        for axes, (name, k, title) in zip(panels, named, strict=True):
            picture = _colour(name, planes[name][row, k])
            axes.imshow(np.swapaxes(picture, 0, 1) if transpose else picture)
            # Only scans lie on their side, and only of them the patient's right is known.
            if transpose:
                mark_sides(axes)
            # Headings are above the first line alone.
            if place < beside:
                axes.set_title(title, fontsize="small")
        panels[0].set_ylabel(_label(rows, row), fontsize="x-small")
    return figure


def _name_planes(
    planes: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
) -> list[tuple[str, int, str]]:
    """Array, number and title of the planes of a row, MOST at most."""
    named = []
    for name, array in planes.items():
        titles = _names(name, array.shape[1], description)
        named += [(name, k, title) for k, title in enumerate(titles)]
    return named[:MOST]


def _colour(name: str, plane: np.ndarray) -> Float[np.ndarray, "h w 3"]:
    """Images in grey, labels in the colours of tissues.

    Anything else runs from black for nothing to white for 1 (255 in bytes) or the highest value.
    """
    if name == "labels":
        colours = np.array([(0, 0, 0), *map(to_rgb, TARGETS)])
        # More labels than colours share the last.
        return colours[np.minimum(plane, len(TARGETS)).astype(int)]
    in_bytes = plane.dtype == np.uint8
    # Attention is NaN outside the network's field of view.
    share = plane / 255 if in_bytes else np.nan_to_num(plane.astype(np.float32))
    if name == "image":
        # Bytes are grey levels already, standardised intensities aren't.
        levels = share if in_bytes else grey(share)
        return np.repeat(levels[..., None], 3, axis=-1)
    highest = max(1, share.max())
    return colormaps["inferno"](share / highest)[..., :3]


def _draw_numbers(
    rows: pd.DataFrame,
    numbers: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
) -> Figure:
    length = len(next(iter(numbers.values())))
    width = sum(array.shape[1] for array in numbers.values())
    size = (0.9 * width + 2, 0.25 * length + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(numbers), squeeze=False)[0]
    for axes, (name, values) in zip(panels, numbers.items(), strict=True):
        _write_numbers(axes, values, _names(name, values.shape[1], description))
        axes.set_xlabel(name, fontsize="small")
        axes.set(yticks=[])
    labels = [_label(rows, row) for row in range(length)]
    panels[0].set_yticks(range(length), labels, fontsize="x-small")
    return figure


def _write_numbers(axes: Axes, values: np.ndarray, names: Sequence[str]) -> None:
    shades = np.nan_to_num(values.astype(np.float32))
    # Paler than the colour map, so that black numbers can be read on the darkest.
    axes.imshow(shades, cmap="Blues", aspect="auto", alpha=0.6)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize="x-small")
    axes.set_xticks(range(len(names)), names, fontsize="small")
    axes.xaxis.tick_top()


def _names(array: str, count: int, description: Mapping[str, Any]) -> Sequence[str]:
    """The first list of as many names that the store gives of itself: its modalities, tissues, classes or maps."""
    if count == 1:
        return [array]
    for value in description.values():
        if not isinstance(value, list) or len(value) != count:
            continue
        if all(isinstance(name, str) for name in value):
            return value
    return [f"{array} {k}" for k in range(count)]


def _label(rows: pd.DataFrame, row: int) -> str:
    """Which patient and slice, which epoch, or which file a row is of."""
    words = {"patient": "", "slice": "slice ", "epoch": "epoch "}
    said = [f"{word}{rows[column].iloc[row]}" for column, word in words.items() if column in rows]
    if "file" in rows and not said:
        name = rows["file"].iloc[row].rsplit("/", 1)[-1]
        # The end of a name tells files apart, and 20 letters fit beside a picture.
        said = [name[-20:]]
    return "\n".join(said) or f"row {row}"
