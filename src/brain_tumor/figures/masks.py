"""Figures of masks that lie beside each other, with their scan where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from brain_tumor.figures.palette import ERRORS, colour_targets
from brain_tumor.figures.segmentation import (
    colour_errors,
    finish,
    frame_brains,
    grey,
    lay_grid,
    name_columns,
    paint,
    show,
)

MARGIN = 12
"""Pixels around a tumour that is shown without a scan."""


@dataclass(frozen=True)
class MaskExample:
    """One slice of a patient: labels of both masks, and the scan, which is all 0 where there is none."""

    title: str
    plane: Float[np.ndarray, "h w"]
    truth: UInt8[np.ndarray, "h w"]
    predicted: UInt8[np.ndarray, "h w"]


def draw_examples(examples: Sequence[MaskExample], tissues: Sequence[str], title: str) -> Figure:
    """A row for each example: the scan where all have one, reference mask, prediction, errors."""
    scanned = all(example.plane.any() for example in examples)
    columns = ["scan"] * scanned + ["reference mask", "prediction", "errors"]
    shown = [example.plane if scanned else _mark(example) for example in examples]
    boxes = frame_brains([plane[None] for plane in shown], 2 if scanned else MARGIN)
    figure, grid = lay_grid(boxes, len(columns))
    for row, example, box in zip(grid, examples, boxes, strict=True):
        plane, truth, predicted = example.plane[box], example.truth[box], example.predicted[box]
        pictures = [paint(plane, truth), paint(plane, predicted), colour_errors(plane, truth, predicted)]
        if scanned:
            pictures.insert(0, grey(plane))
        for axes, picture in zip(row, pictures, strict=True):
            show(axes, picture)
        row[0].set_ylabel(example.title, fontsize="small")
    name_columns(figure, grid, columns, colour_targets(tissues) | ERRORS)
    return finish(figure, title)


def _mark(example: MaskExample) -> Float[np.ndarray, "h w"]:
    """1 where either mask has a tissue."""
    return ((example.truth > 0) | (example.predicted > 0)).astype(np.float32)
