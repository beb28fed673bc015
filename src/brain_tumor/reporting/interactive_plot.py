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

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 330, 58, 12, 10, 44
"""Of the drawing, and of its margins."""

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
    columns, series = list(dots["column"].unique()), list(order or dots["series"].unique())
    width = (WIDTH - LEFT - RIGHT) / len(columns)
    rng = np.random.default_rng(0)
    lane = dots["series"].map(series.index) - (len(series) - 1) / 2
    crowd = dots.groupby(["column", "series"])["value"].transform("size")
    scatter = np.where(crowd > 1, rng.uniform(-SPREAD / 2, SPREAD / 2, len(dots)), 0)
    x = LEFT + width * (dots["column"].map(columns.index) + 0.5 + 0.85 * (lane + scatter) / len(series))
    up = _Axis(label, lambda value: _between(value, 0, 1), [(v, f"{v:.1f}") for v in np.linspace(0, 1, 6)])
    across = _Axis("", float, [(LEFT + width * (k + 0.5), str(name)) for k, name in enumerate(columns)])
    return _draw(dots, x, up, across, caption, _tell_strip(dots, label), series, colours=colours)


def draw_scatter(dots: pd.DataFrame, labels: tuple[str, str], lines: Sequence[float], caption: str) -> Plot:
    """Dots on two logarithmic axes of one span, with the diagonal and lines at some values of both.

    Args:
        dots: rows `x`, `value`, `series`, `name`, `says`.
        labels: of x and of the values.
    """
    both = dots[["x", "value"]].to_numpy()
    low, high = math.log10(0.8 * max(both.min(), 1)), math.log10(1.2 * both.max())
    ticks = [v for v in (3, 10, 30, 100, 300, 1000, 3000, 10000) if low <= math.log10(v) <= high]
    side = HEIGHT - TOP - BOTTOM

    def across(value: float) -> float:
        return LEFT + 1.4 * side * (math.log10(max(value, 1)) - low) / (high - low)

    up = _Axis(labels[1], lambda value: _between(math.log10(max(value, 1)), low, high), [(v, f"{v:,}") for v in ticks])
    wide = _Axis(labels[0], across, [(across(v), f"{v:,}") for v in ticks])
    rules = [(across(v), TOP, across(v), HEIGHT - BOTTOM) for v in lines] + [
        (across(10**low), up.place(v), across(10**high), up.place(v)) for v in lines
    ]
    rules += [(across(10**low), up.place(10**low), across(10**high), up.place(10**high))]
    told = f"Scatter plot of {labels[1]} against {labels[0]}: " + "; ".join(
        f"{name}, {len(part)} dots" for name, part in dots.groupby("series", sort=False)
    )
    return _draw(
        dots,
        dots["x"].map(across),
        up,
        wide,
        caption,
        f"{told}.",
        list(dots["series"].unique()),
        rules,
        across(10**high),
    )


def _between(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)


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
    spans = dots[["low", "high"]].to_numpy(float) if "low" in dots else np.full((len(dots), 2), np.nan)
    marks = [
        {
            "x": place,
            "y": up.place(row.value),
            "name": row.name,
            "says": row.says,
            "span": [up.place(v) for v in span if not math.isnan(v)],
        }
        for place, row, span in zip(x, dots.itertuples(), spans, strict=True)
    ]
    colours = colours or {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(series)}
    # the ink of the page is light where the page is dark
    shown = {name: "var(--ink)" if colour == INK else colour for name, colour in colours.items()}
    groups = [{"name": name, "colour": shown[name], "marks": _of(marks, dots, name)} for name in series]
    frame = {
        "width": WIDTH,
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


def fill(template: str, **values: Any) -> str:
    """One of the templates beside this file; values are escaped, one that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("brain_tumor.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template, globals=values).render()


def _of(marks: list[dict[str, Any]], dots: pd.DataFrame, series: str) -> list[dict[str, Any]]:
    return [mark for mark, own in zip(marks, dots["series"], strict=True) if own == series]


def _radius(dots: int) -> float:
    return 4.5 if dots < 100 else 3.5 if dots < 500 else 2.5


def _tell_strip(dots: pd.DataFrame, label: str) -> str:
    """The plot in words: what is in each column, for each series."""
    said = []
    for (column, series), values in dots.groupby(["column", "series"], sort=False)["value"]:
        spread = f", {values.min():.3f} to {values.max():.3f}" if len(values) > 1 else ""
        said.append(f"{column}, {series}: {'median ' if spread else ''}{values.median():.3f}{spread}")
    return f"Dot plot of {label}. {'; '.join(said)}."
