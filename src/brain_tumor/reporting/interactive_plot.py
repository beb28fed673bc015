"""Plots that say more when pointed at: SVG inside the page, which prints as sharply as text and needs no library."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from brain_tumor.figures.palette import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILLION

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Of series that are no networks, in their order."""

WIDTH, HEIGHT = 760, 330
"""Of the drawing, in pixels of SVG."""

LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 44
"""Its margins: wider where numbers and names of the axes stand."""

TICKS = (3, 10, 30, 100, 300, 1000, 3000, 10000)
"""Of logarithmic axes; about evenly spaced there."""

SPREAD = 0.5
"""Share of a series' lane in which its dots are scattered."""


@dataclass(frozen=True)
class Plot:
    """A drawing and what it shows.

    Pointing at a dot says which it is and lights up all dots of its name on the page.
    """

    svg: Markup
    caption: str


@dataclass(frozen=True)
class _Axis:
    """From values to places between `start` and `end`."""

    label: str
    place: Callable[[Any], float]
    ticks: Sequence[tuple[float, str]]


def draw_strip(
    dots: pd.DataFrame,
    label: str,
    caption: str,
    order: Sequence[str] = (),
    colours: Mapping[str, str] | None = None,
) -> Plot:
    """Dots in columns on an axis from 0 to 1, each series in a lane of its own.

    Args:
        dots: rows `column`, `value`, `series`, `name` (whose it is: a patient's, a network's), `says` (when pointed
            at), and where there is an interval, `low` and `high`.
        label: of the values.
        order: of the series; that of the rows if not given.
        colours: series > colour.
    """
    columns = list(dots["column"].unique())
    series = list(order or dots["series"].unique())
    width = (WIDTH - LEFT - RIGHT) / len(columns)
    # The seed is fixed: the same dots give the same plot.
    rng = np.random.default_rng(0)
    middle = (len(series) - 1) / 2
    lane = dots["series"].map(series.index) - middle
    crowd = dots.groupby(["column", "series"])["value"].transform("size")
    # A single dot, such as that of a network, stays in the middle of its lane.
    offset = rng.uniform(-SPREAD / 2, SPREAD / 2, len(dots))
    scatter = np.where(crowd > 1, offset, 0)
    column = dots["column"].map(columns.index)
    # Lanes fill 0.85 of a column, so that columns stay apart.
    from_middle = 0.85 * (lane + scatter) / len(series)
    x = LEFT + width * (column + 0.5 + from_middle)

    def place(value: float) -> float:
        return _between(value, 0, 1)

    ticks = [(tick, f"{tick:.1f}") for tick in np.linspace(0, 1, 6)]
    up = _Axis(label, place, ticks)
    names = [(LEFT + width * (k + 0.5), str(name)) for k, name in enumerate(columns)]
    across = _Axis("", float, names)
    told = _tell_strip(dots, label)
    return _draw(dots, x, up, across, caption, told, series, colours=colours)


def draw_scatter(
    dots: pd.DataFrame,
    labels: tuple[str, str],
    lines: Sequence[float],
    caption: str,
) -> Plot:
    """Dots on two logarithmic axes of one span, with the diagonal and lines at some values of both.

    Args:
        dots: rows `x`, `value`, `series`, `name`, `says`.
        labels: of x and of the values.
    """
    both = dots[["x", "value"]].to_numpy()
    # Below 1 a value is drawn as 1: a logarithmic axis has no 0.
    low = math.log10(0.8 * max(both.min(), 1))
    high = math.log10(1.2 * both.max())
    ticks = [tick for tick in TICKS if low <= math.log10(tick) <= high]
    side = HEIGHT - TOP - BOTTOM

    def across(value: float) -> float:
        exponent = math.log10(max(value, 1))
        return LEFT + 1.4 * side * (exponent - low) / (high - low)

    def up(value: float) -> float:
        exponent = math.log10(max(value, 1))
        return _between(exponent, low, high)

    # The template places the ticks of the vertical axis itself, and takes places for the other.
    ticks_up = [(tick, f"{tick:,}") for tick in ticks]
    ticks_across = [(across(tick), f"{tick:,}") for tick in ticks]
    across_label, up_label = labels
    vertical = _Axis(up_label, up, ticks_up)
    horizontal = _Axis(across_label, across, ticks_across)
    left, right = across(10**low), across(10**high)
    bottom, top = up(10**low), up(10**high)
    rules: list[tuple[float, float, float, float]] = []
    rules += [(across(line), TOP, across(line), HEIGHT - BOTTOM) for line in lines]
    rules += [(left, up(line), right, up(line)) for line in lines]
    diagonal = (left, bottom, right, top)
    rules.append(diagonal)
    counts = [f"{name}, {len(part)} dots" for name, part in dots.groupby("series", sort=False)]
    told = f"Scatter plot of {up_label} against {across_label}: {'; '.join(counts)}."
    series = list(dots["series"].unique())
    return _draw(dots, dots["x"].map(across), vertical, horizontal, caption, told, series, rules, right)


def _between(value: float, low: float, high: float) -> float:
    # SVG counts pixels from the top.
    bottom = HEIGHT - BOTTOM
    height = HEIGHT - TOP - BOTTOM
    return bottom - height * (value - low) / (high - low)


def _draw(
    dots: pd.DataFrame,
    x: pd.Series,
    up: _Axis,
    across: _Axis,
    caption: str,
    told: str,
    series: Sequence[str],
    rules: Sequence[tuple[float, float, float, float]] = (),
    right: float = WIDTH - RIGHT,
    colours: Mapping[str, str] | None = None,
) -> Plot:
    marks = _place_marks(dots, x, up)
    colours = colours or {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(series)}
    groups = []
    for name in series:
        own = [mark for mark, of in zip(marks, dots["series"], strict=True) if of == name]
        # The ink of the page is light where the page is dark.
        colour = "var(--ink)" if colours[name] == INK else colours[name]
        groups.append({"name": name, "colour": colour, "marks": own})
    frame = {
        "width": WIDTH,
        # An axis without label needs no line for it.
        "height": HEIGHT if across.label else HEIGHT - 18,
        "left": LEFT,
        "right": right,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
    }
    svg = fill(
        "interactive_plot.svg.jinja",
        groups=groups,
        up=up,
        across=across,
        frame=frame,
        rules=rules,
        told=told,
        radius=_radius(len(dots)),
    )
    return Plot(Markup(svg), caption)  # noqa: S704


def _place_marks(dots: pd.DataFrame, x: pd.Series, up: _Axis) -> list[dict[str, Any]]:
    """What the template draws of each dot: its place, its words, and the ends of its interval if it has one."""
    no_spans = np.full((len(dots), 2), np.nan)
    spans = dots[["low", "high"]].to_numpy(float) if "low" in dots else no_spans
    marks = []
    for place, row, span in zip(x, dots.itertuples(), spans, strict=True):
        ends = [up.place(value) for value in span if not math.isnan(value)]
        marks.append(
            {
                "x": place,
                "y": up.place(row.value),
                "name": row.name,
                "says": row.says,
                "span": ends,
            }
        )
    return marks


def fill(template: str, **values: Any) -> str:
    """One of the templates beside this file; values are escaped, one that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("brain_tumor.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template, globals=values).render()


def _radius(dots: int) -> float:
    # The more dots, the smaller, so that they can be told apart.
    if dots < 100:
        return 4.5
    return 3.5 if dots < 500 else 2.5


def _tell_strip(dots: pd.DataFrame, label: str) -> str:
    """The plot in words: what is in each column, for each series."""
    said = []
    for (column, series), values in dots.groupby(["column", "series"], sort=False)["value"]:
        middle = f"{values.median():.3f}"
        if len(values) > 1:
            middle = f"median {middle}, {values.min():.3f} to {values.max():.3f}"
        said.append(f"{column}, {series}: {middle}")
    return f"Dot plot of {label}. {'; '.join(said)}."
