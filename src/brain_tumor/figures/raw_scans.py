"""Figures of raw scans in the position of BraTS: whether modalities lie on each other, and the outline of the brain."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

SQUARE = 24
"""Side of a field of the checkerboard, millimetres."""

OUTLINE = "#e69f00"


def draw_patient(
    planes: Mapping[str, Sequence[np.ndarray]], outline: Sequence[np.ndarray], reference: str, title: str
) -> Figure:
    """A row for each modality: it in a checkerboard with the reference, then alone with the brain's outline.

    Args:
        planes: modality > its planes (an axial one with axes L, P, and a sagittal one with axes P, S), with the skull.
        outline: the brain in the same planes.
        reference: modality that the others were registered to.
    """
    columns = 2 * len(outline)
    figure = Figure(figsize=(2.6 * columns, 2.6 * len(planes) + 0.4), layout="constrained")
    axes = figure.subplots(len(planes), columns, squeeze=False)
    for row, (modality, own) in zip(axes, planes.items(), strict=True):
        for k, plane in enumerate(own):
            shown, other = _scale(plane), _scale(planes[reference][k])
            board = np.where(_checkerboard(plane.shape), shown, other)
            label = modality if modality == reference else f"{modality} in a checkerboard with {reference}"
            _show(row[2 * k], board, k, label)
            _show(row[2 * k + 1], shown, k, f"{modality}, outline of the brain")
            row[2 * k + 1].contour(_turn(outline[k].astype(float), k), levels=[0.5], colors=OUTLINE, linewidths=0.8)
    figure.suptitle(title, fontsize="medium")
    return figure


def _scale(plane: np.ndarray) -> np.ndarray:
    """0 to 1, so that a bright vessel doesn't darken the brain."""
    high = np.quantile(plane[plane > 0], 0.99) if (plane > 0).any() else 1.0
    return np.clip(plane / high, 0, 1)


def _checkerboard(shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows // SQUARE + columns // SQUARE) % 2 == 0


def _turn(plane: np.ndarray, k: int) -> np.ndarray:
    """Axial planes have the front on top; sagittal ones the head."""
    return plane.T if k == 0 else plane.T[::-1]


def _show(axes: object, plane: np.ndarray, k: int, label: str) -> None:
    axes.imshow(_turn(plane, k), cmap="gray", vmin=0, vmax=1, interpolation="nearest")  # type: ignore[attr-defined]
    axes.set_title(label, fontsize="x-small")  # type: ignore[attr-defined]
    axes.axis("off")  # type: ignore[attr-defined]
