"""Figures of survival.

Curves by risk, expected against true days, models compared, what chance gives, calibration, importances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from brain_tumor.figures.palette import BLUE, GREEN, RISKS, VERMILLION

AGE_COLOUR, SHAPE_COLOUR = "0.45", BLUE
"""Of models on age alone, and of those on age and shape."""

YEAR = 365.25
"""Days."""

FEWEST = 3
"""Patients at risk below whom a curve is not drawn on: a step of one patient says nothing."""


@dataclass(frozen=True)
class Curve:
    """A Kaplan-Meier curve: rows `day`, `alive`, `low`, `high`; and its patients' days, for the numbers at risk."""

    label: str
    steps: pd.DataFrame
    days: Float[np.ndarray, " n"]
    observed: Bool[np.ndarray, " n"]


Panels = Mapping[str, Mapping[str, Sequence[Curve]]]
"""Cohort > what the risk was taken from > curves, the lowest risk first."""


def draw_curves(panels: Panels, title: str) -> Figure:
    """Kaplan-Meier curves of the groups, a row for each cohort, with the number of patients still at risk.

    The axis ends where fewer than FEWEST patients of a panel are at risk.
    """
    last = max(_find_end(curves) for row in panels.values() for curves in row.values())
    columns = max(len(row) for row in panels.values())
    figure = Figure(figsize=(5.2 * columns, 4.8 * len(panels)), layout="constrained")
    grid = figure.subplots(2 * len(panels), columns, squeeze=False, sharex=True, height_ratios=[4, 1] * len(panels))
    for k, (cohort, row) in enumerate(panels.items()):
        for (name, curves), above, below in zip(row.items(), grid[2 * k], grid[2 * k + 1], strict=True):
            _draw_steps(above, curves, last)
            above.set_title(f"{cohort}, risk from {name}", fontsize="medium", pad=_leave_lines(len(curves)))
            above.set(ylim=(0, 1.02), xlim=(0, last / YEAR), ylabel="part alive")
            _write_at_risk(below, curves, last)
    for axes in grid[-1]:
        axes.set_xlabel("years")
    figure.suptitle(title)
    return figure


def _find_end(curves: Sequence[Curve]) -> float:
    """The last day on which FEWEST patients of all groups are at risk."""
    days = np.sort(np.concatenate([curve.days for curve in curves]))
    return float(days[-min(FEWEST, len(days))])


def _draw_steps(axes: Axes, curves: Sequence[Curve], last: float) -> None:
    for curve, colour in zip(curves, RISKS, strict=True):
        steps = pd.concat([curve.steps, curve.steps.tail(1).assign(day=min(curve.days.max(), last))])
        median = steps.loc[steps["alive"] <= 0.5, "day"]
        lived = f"median {median.iloc[0]:.0f} days" if len(median) else "median not reached"
        years = steps["day"] / YEAR
        axes.step(years, steps["alive"], where="post", color=colour, label=f"{curve.label}: {lived}")
        axes.fill_between(years, steps["low"], steps["high"], step="post", color=colour, alpha=0.13, linewidth=0)
        censored = curve.days[~curve.observed]
        heights = np.interp(censored, steps["day"], steps["alive"])
        axes.plot(censored / YEAR, heights, "|", color=colour, markersize=8)
    _place_lines_above(axes)


def _leave_lines(count: int) -> float:
    """Points between axes and title that a legend of so many lines needs."""
    return 14.0 * count + 8


def _place_lines_above(axes: Axes) -> None:
    """A legend of long lines between title and axes, where no data can be."""
    axes.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)


def _write_at_risk(axes: Axes, curves: Sequence[Curve], last: float) -> None:
    ticks = np.array(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(0, last / YEAR))
    ticks = ticks[(ticks >= 0) & (ticks <= last / YEAR)]
    for k, (curve, colour) in enumerate(zip(curves, RISKS, strict=True)):
        for tick in ticks:
            count = str((curve.days >= tick * YEAR).sum())
            axes.text(tick, -k, count, color=colour, ha="center", va="center", fontsize="small")
    axes.set(ylim=(-len(curves) + 0.4, 0.6), yticks=[], xticks=ticks)
    axes.set_title("patients at risk", loc="left", fontsize="small", color="0.4")
    axes.spines[["top", "left", "right"]].set_visible(False)


@dataclass(frozen=True)
class Scatter:
    """Expected and true days of patients; `observed` is False for those only known to be alive."""

    expected: Float[np.ndarray, " n"]
    days: Float[np.ndarray, " n"]
    observed: Bool[np.ndarray, " n"]
    label: str


def draw_expected(panels: Mapping[str, Mapping[str, Scatter]], limits: Sequence[float], title: str) -> Figure:
    """Expected against true days on logarithmic axes, a row for each cohort; the lines part the classes."""
    columns = max(len(row) for row in panels.values())
    figure = Figure(figsize=(4.4 * columns, 4.4 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False, sharex=True, sharey=True)
    every = np.concatenate([scatter.days for row in panels.values() for scatter in row.values()])
    span = (max(0.8 * every.min(), 1), 1.2 * every.max())
    for (cohort, row), axes_row in zip(panels.items(), grid, strict=True):
        for (name, scatter), axes in zip(row.items(), axes_row, strict=True):
            _draw_scatter(axes, scatter, limits, span)
            axes.set_title(f"{cohort}, {name}\n{scatter.label}", fontsize="medium")
    figure.suptitle(title)
    return figure


def _draw_scatter(axes: Axes, scatter: Scatter, limits: Sequence[float], span: tuple[float, float]) -> None:
    seen = scatter.observed
    axes.scatter(
        scatter.days[seen],
        scatter.expected[seen],
        s=16,
        alpha=0.65,
        linewidth=0,
        color=SHAPE_COLOUR,
        label="died on that day",
    )
    if not seen.all():
        axes.scatter(
            scatter.days[~seen],
            scatter.expected[~seen],
            s=30,
            marker=">",
            facecolor="none",
            edgecolor=VERMILLION,
            label="alive on that day",
        )
        axes.legend(frameon=False, fontsize="small", loc="lower right")
    axes.plot(span, span, color="0.2", linewidth=0.8)
    for limit in limits:
        axes.axvline(limit, color="0.8", linewidth=0.8, zorder=0)
        axes.axhline(limit, color="0.8", linewidth=0.8, zorder=0)
    axes.set(
        xscale="log", yscale="log", xlim=span, ylim=span, xlabel="true days", ylabel="expected days", aspect="equal"
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([10, 30, 100, 300, 1000, 3000]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:.0f}"))


def draw_models(scores: pd.DataFrame, metrics: Mapping[str, str], baseline: tuple[str, str], title: str) -> Figure:
    """Each model's scores with their intervals, a row of panels for each cohort; the line is age alone.

    Args:
        scores: rows `cohort`, `model`, `features`, `metric`, `value`, `low`, `high`.
        metrics: name > label of its axis.
    """
    cohorts = list(scores["cohort"].unique())
    figure = Figure(figsize=(9.4, 0.6 + 3.2 * len(cohorts)), layout="constrained")
    grid = figure.subplots(len(cohorts), len(metrics), squeeze=False, sharex="col", sharey="row")
    for cohort, row in zip(cohorts, grid, strict=True):
        for axes, (metric, label) in zip(row, metrics.items(), strict=True):
            mine = scores[
                (scores["cohort"] == cohort) & (scores["metric"] == metric) & (scores["model"] != "median")
            ].iloc[::-1]
            names = mine["model"] + ", " + mine["features"]
            colours = [AGE_COLOUR if features == "age" else SHAPE_COLOUR for features in mine["features"]]
            axes.hlines(names, mine["low"], mine["high"], color=colours, linewidth=2)
            axes.scatter(mine["value"], names, color=colours, s=28, zorder=3)
            line = mine.loc[(mine["model"] == baseline[0]) & (mine["features"] == baseline[1]), "value"].item()
            axes.axvline(line, color=AGE_COLOUR, linestyle=":", linewidth=1)
            axes.set(xlabel=label)
            axes.grid(axis="x", alpha=0.3)
        row[0].set_title(f"{cohort}: {mine['patients'].iloc[0]} patients", loc="left", fontsize="medium")
    figure.suptitle(title)
    return figure


def draw_chance(chance: pd.DataFrame, gains: pd.DataFrame, metrics: Mapping[str, str], title: str) -> Figure:
    """What permuted shapes add to age, beside what the true ones add.

    Args:
        chance: rows `cohort`, `metric`, `gain`.
        gains: rows `cohort`, `metric`, `gain`, `p` of the model tested.
        metrics: name > label.
    """
    cohorts = list(gains["cohort"].unique())
    figure = Figure(figsize=(9.4, 0.5 + 2.8 * len(cohorts)), layout="constrained")
    for cohort, row in zip(
        cohorts, figure.subplots(len(cohorts), len(metrics), squeeze=False, sharex="col"), strict=True
    ):
        for axes, (metric, label) in zip(row, metrics.items(), strict=True):
            values = chance.loc[(chance["cohort"] == cohort) & (chance["metric"] == metric), "gain"]
            true = gains[(gains["cohort"] == cohort) & (gains["metric"] == metric)].iloc[0]
            axes.hist(values, 30, color="0.75", label=f"{len(values)} permutations")
            axes.axvline(0, color="0.4", linewidth=0.8)
            axes.axvline(
                true["gain"],
                color=SHAPE_COLOUR,
                linewidth=2,
                label=f"true shapes: {true['gain']:+.3f}, p = {true['p']:.3f}",
            )
            axes.set(xlabel=f"gain in {label} over age alone", yticks=[])
            axes.set_title(cohort, fontsize="medium", pad=_leave_lines(2))
            _place_lines_above(axes)
    figure.suptitle(title)
    return figure


@dataclass(frozen=True)
class Calibration:
    """Rows `expected`, `alive`, `low`, `high` of groups of patients.

    Deaths in each tenth of probability, and the p-value that they are equally many.
    """

    groups: pd.DataFrame
    deaths: Float[np.ndarray, " b"]
    p: float


def draw_calibration(panels: Mapping[str, Mapping[str, Calibration]], horizon: float, title: str) -> Figure:
    """Expected against seen survival at the horizon, and where on the curves deaths fell; a row for each cohort."""
    figure = Figure(figsize=(11, 0.4 + 3.6 * len(panels)), layout="constrained")
    for (cohort, models), (left, right) in zip(
        panels.items(), figure.subplots(len(panels), 2, squeeze=False), strict=True
    ):
        left.plot([0, 1], [0, 1], color="0.2", linewidth=0.8)
        for k, (name, calibration) in enumerate(models.items()):
            groups, colour = calibration.groups, (AGE_COLOUR, SHAPE_COLOUR, GREEN)[k]
            errors = np.abs(groups[["low", "high"]].to_numpy().T - groups["alive"].to_numpy())
            left.errorbar(
                groups["expected"] + 0.006 * (k - 1),
                groups["alive"],
                errors,
                fmt="o",
                markersize=5,
                color=colour,
                label=name,
                elinewidth=1,
            )
            edges = np.linspace(0, 1, len(calibration.deaths) + 1)
            right.stairs(
                calibration.deaths, edges, color=colour, linewidth=1.6, label=f"{name}, p = {calibration.p:.2f}"
            )
        right.axhline(calibration.deaths.mean(), color="0.2", linewidth=0.8)
        left.set(
            xlim=(0, 1),
            ylim=(0, 1),
            xlabel=f"expected to be alive on day {horizon:.0f}",
            ylabel="alive (Kaplan-Meier)",
            aspect="equal",
        )
        right.set(xlabel="probability to be alive that was given for the day of death", ylabel="deaths", ylim=(0, None))
        for axes in (left, right):
            axes.set_title(cohort, fontsize="medium")
        right.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title)
    return figure


def draw_importances(importances: pd.DataFrame, title: str, shown: int = 12) -> Figure:
    """The features that a model would miss most, with intervals over the folds, a panel for each cohort.

    Args:
        importances: rows `cohort`, `feature`, `loss`, `low`, `high`, the largest loss first.
    """
    cohorts = list(importances["cohort"].unique())
    figure = Figure(figsize=(9.4, 4.2), layout="constrained")
    for cohort, axes in zip(cohorts, figure.subplots(1, len(cohorts), squeeze=False)[0], strict=True):
        mine = importances[importances["cohort"] == cohort].head(shown).iloc[::-1]
        axes.hlines(mine["feature"], mine["low"], mine["high"], color=SHAPE_COLOUR, linewidth=2)
        axes.scatter(mine["loss"], mine["feature"], color=SHAPE_COLOUR, s=28, zorder=3)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set(xlabel="loss of concordance when shuffled")
        axes.set_title(cohort, fontsize="medium")
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(title)
    return figure


def draw_changes(pairs: pd.DataFrame, names: Mapping[str, str], title: str, columns: int = 4) -> Figure:
    """Features from predicted masks against those from expert masks, a dot for each patient.

    Args:
        pairs: rows `feature`, `expert`, `predicted`.
        names: feature > unit.
    """
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    for (name, unit), axes in zip(names.items(), figure.subplots(rows, columns, squeeze=False).flat, strict=False):
        mine = pairs[pairs["feature"] == name].dropna()
        axes.scatter(mine["expert"], mine["predicted"], s=18, alpha=0.75, color=SHAPE_COLOUR)
        if len(mine):
            low, high = mine[["expert", "predicted"]].to_numpy().min(), mine[["expert", "predicted"]].to_numpy().max()
            axes.plot([low, high], [low, high], color="0.2", linewidth=0.8)
        axes.set_title(f"{name}" + (f", {unit}" if unit not in ("1", "mm", "ml") else ""), fontsize="small")
        axes.tick_params(labelsize="x-small")
    for axes in figure.axes[len(names) :]:
        axes.set_axis_off()
    figure.supxlabel("from reference masks", fontsize="small")
    figure.supylabel("from predicted masks", fontsize="small")
    figure.suptitle(title)
    return figure
