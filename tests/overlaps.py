"""Whether words in a figure lie over each other or over data, as matplotlib's own renderer places them."""

from itertools import pairwise

from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def find_overlaps(figure: Figure) -> list[str]:
    """Neighbouring tick labels that overlap, and legends that stick out of the figure, in words."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = []
    for k, axes in enumerate(figure.axes):
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            found += [f"axes {k}, {name}: {pair}" for pair in _overlapping_labels(axis, canvas)]
    whole = figure.bbox
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        box = legend.get_window_extent(canvas.get_renderer()) if legend else None
        if box and (box.x0 < whole.x0 - 1 or box.x1 > whole.x1 + 1):
            found.append(f"legend {[text.get_text() for text in legend.get_texts()]} sticks out")
    return found


def _overlapping_labels(axis: Axis, canvas: FigureCanvasAgg) -> list[str]:
    if not axis.get_visible() or not axis.axes.axison:
        return []
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
    shown = [label for label in labels if label.get_visible() and label.get_text()]
    if any(label.get_rotation() % 90 for label in shown):
        return []  # the boxes of slanted words overlap where the words don't
    boxes = sorted(((label.get_window_extent(canvas.get_renderer()), label.get_text()) for label in shown), key=_place)
    return [f"{one!r} over {other!r}" for (box, one), (next_box, other) in pairwise(boxes) if box.overlaps(next_box)]


def _place(labelled: tuple) -> tuple[float, float]:
    return labelled[0].x0, labelled[0].y0
