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

MODEL_COLOURS = (AGE_COLOUR, SHAPE_COLOUR, GREEN)
"""Of the models whose calibration is drawn, in their order: the first is the one on age alone."""

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
    # One axis for all panels, so that they can be compared.
    last = max(_find_end(curves) for row in panels.values() for curves in row.values())
    columns = max(len(row) for row in panels.values())
    figure = Figure(figsize=(5.2 * columns, 4.8 * len(panels)), layout="constrained")
    # Each cohort has two rows of axes: curves, and numbers at risk below them.
    grid = figure.subplots(
        2 * len(panels),
        columns,
        squeeze=False,
        sharex=True,
        height_ratios=[4, 1] * len(panels),
    )
    for k, (cohort, row) in enumerate(panels.items()):
        curve_axes, risk_axes = grid[2 * k : 2 * k + 2]
        for (name, curves), above, below in zip(row.items(), curve_axes, risk_axes, strict=True):
            _draw_steps(above, curves, last)
            pad = _leave_lines(len(curves))
            above.set_title(f"{cohort}, risk from {name}", fontsize="medium", pad=pad)
            above.set(ylim=(0, 1.02), xlim=(0, last / YEAR), ylabel="part alive")
            _write_at_risk(below, curves, last)
    for axes in grid[-1]:
        axes.set_xlabel("years")
    figure.suptitle(title)
    return figure


def _find_end(curves: Sequence[Curve]) -> float:
    """The last day on which FEWEST patients of all groups are at risk."""
    days = np.concatenate([curve.days for curve in curves])
    from_last = min(FEWEST, len(days))
    return float(np.sort(days)[-from_last])


def _draw_steps(axes: Axes, curves: Sequence[Curve], last: float) -> None:
    for curve, colour in zip(curves, RISKS, strict=True):
        # The last step goes on to the last patient seen, or to the end of the axis.
        end = min(curve.days.max(), last)
        last_step = curve.steps.tail(1).assign(day=end)
        steps = pd.concat([curve.steps, last_step])
        # Median survival is the first day on which at most half are alive.
        half_dead = steps.loc[steps["alive"] <= 0.5, "day"]
        lived = f"median {half_dead.iloc[0]:.0f} days" if len(half_dead) else "median not reached"
        years = steps["day"] / YEAR
        axes.step(
            years,
            steps["alive"],
            where="post",
            color=colour,
            label=f"{curve.label}: {lived}",
        )
        axes.fill_between(
            years,
            steps["low"],
            steps["high"],
            step="post",
            color=colour,
            alpha=0.13,
            linewidth=0,
        )
        # Censored patients are ticks on the curve, as is usual.
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
    last_year = last / YEAR
    locator = MaxNLocator(7, steps=[1, 2, 2.5, 5, 10])
    ticks = np.array(locator.tick_values(0, last_year))
    # The locator gives ticks beyond both ends.
    ticks = ticks[(ticks >= 0) & (ticks <= last_year)]
    for k, (curve, colour) in enumerate(zip(curves, RISKS, strict=True)):
        for tick in ticks:
            at_risk = (curve.days >= tick * YEAR).sum()
            axes.text(
                tick,
                -k,
                str(at_risk),
                color=colour,
                ha="center",
                va="center",
                fontsize="small",
            )
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


def draw_expected(
    panels: Mapping[str, Mapping[str, Scatter]],
    limits: Sequence[float],
    title: str,
) -> Figure:
    """Expected against true days on logarithmic axes, a row for each cohort; the lines part the classes."""
    columns = max(len(row) for row in panels.values())
    figure = Figure(figsize=(4.4 * columns, 4.4 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False, sharex=True, sharey=True)
    every = np.concatenate([scatter.days for row in panels.values() for scatter in row.values()])
    # One span for both axes and all panels; 1 at least, because a logarithmic axis has no 0.
    span = (max(0.8 * every.min(), 1), 1.2 * every.max())
    for (cohort, row), axes_row in zip(panels.items(), grid, strict=True):
        for (name, scatter), axes in zip(row.items(), axes_row, strict=True):
            _draw_scatter(axes, scatter, limits, span)
            axes.set_title(f"{cohort}, {name}\n{scatter.label}", fontsize="medium")
    figure.suptitle(title)
    return figure


def _draw_scatter(
    axes: Axes,
    scatter: Scatter,
    limits: Sequence[float],
    span: tuple[float, float],
) -> None:
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
    # The lines lie below the dots, whatever the order of drawing.
    for limit in limits:
        axes.axvline(limit, color="0.8", linewidth=0.8, zorder=0)
        axes.axhline(limit, color="0.8", linewidth=0.8, zorder=0)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=span,
        ylim=span,
        xlabel="true days",
        ylabel="expected days",
        aspect="equal",
    )
    # Matplotlib's own ticks are powers of ten, of which few are within the span.
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([10, 30, 100, 300, 1000, 3000]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:.0f}"))


def draw_models(
    scores: pd.DataFrame,
    metrics: Mapping[str, str],
    baseline: tuple[str, str],
    title: str,
) -> Figure:
    """Each model's scores with their intervals, a row of panels for each cohort; the line is age alone.

    Args:
        scores: rows `cohort`, `model`, `features`, `metric`, `value`, `low`, `high`.
        metrics: name > label of its axis.
    """
    cohorts = list(scores["cohort"].unique())
    figure = Figure(figsize=(9.4, 0.6 + 3.2 * len(cohorts)), layout="constrained")
    grid = figure.subplots(
        len(cohorts),
        len(metrics),
        squeeze=False,
        sharex="col",
        sharey="row",
    )
    for cohort, row in zip(cohorts, grid, strict=True):
        # The null model has the same prediction for everybody, and ranks nobody.
        own = scores[(scores["cohort"] == cohort) & (scores["model"] != "median")]
        for axes, (metric, label) in zip(row, metrics.items(), strict=True):
            # Reversed, because the axis rises: the first model is on top.
            of_metric = own[own["metric"] == metric].iloc[::-1]
            _draw_model_scores(axes, of_metric, baseline)
            axes.set(xlabel=label)
            axes.grid(axis="x", alpha=0.3)
        patients = own["patients"].iloc[0]
        row[0].set_title(f"{cohort}: {patients} patients", loc="left", fontsize="medium")
    figure.suptitle(title)
    return figure


def _draw_model_scores(axes: Axes, scores: pd.DataFrame, baseline: tuple[str, str]) -> None:
    """One score of each model with its interval, a line each."""
    names = scores["model"] + ", " + scores["features"]
    colours = [AGE_COLOUR if features == "age" else SHAPE_COLOUR for features in scores["features"]]
    axes.hlines(names, scores["low"], scores["high"], color=colours, linewidth=2)
    axes.scatter(scores["value"], names, color=colours, s=28, zorder=3)
    model, features = baseline
    is_baseline = (scores["model"] == model) & (scores["features"] == features)
    line = scores.loc[is_baseline, "value"].item()
    axes.axvline(line, color=AGE_COLOUR, linestyle=":", linewidth=1)


def draw_chance(
    chance: pd.DataFrame,
    gains: pd.DataFrame,
    metrics: Mapping[str, str],
    title: str,
) -> Figure:
    """What permuted shapes add to age, beside what the true ones add.

    Args:
        chance: rows `cohort`, `metric`, `gain`.
        gains: rows `cohort`, `metric`, `gain`, `p` of the model tested.
        metrics: name > label.
    """
    cohorts = list(gains["cohort"].unique())
    figure = Figure(figsize=(9.4, 0.5 + 2.8 * len(cohorts)), layout="constrained")
    grid = figure.subplots(len(cohorts), len(metrics), squeeze=False, sharex="col")
    for cohort, row in zip(cohorts, grid, strict=True):
        for axes, (metric, label) in zip(row, metrics.items(), strict=True):
            permuted = (chance["cohort"] == cohort) & (chance["metric"] == metric)
            values = chance.loc[permuted, "gain"]
            own = (gains["cohort"] == cohort) & (gains["metric"] == metric)
            true = gains[own].iloc[0]
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


def draw_calibration(
    panels: Mapping[str, Mapping[str, Calibration]],
    horizon: float,
    title: str,
) -> Figure:
    """Expected against seen survival at the horizon, and where on the curves deaths fell; a row for each cohort."""
    figure = Figure(figsize=(11, 0.4 + 3.6 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False)
    for (cohort, models), (left, right) in zip(panels.items(), grid, strict=True):
        _draw_groups(left, models, horizon)
        _draw_deaths(right, models)
        for axes in (left, right):
            axes.set_title(cohort, fontsize="medium")
        right.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title)
    return figure


def _draw_groups(axes: Axes, models: Mapping[str, Calibration], horizon: float) -> None:
    """Survival at the horizon of each group of patients, with its interval, against what was expected."""
    axes.plot([0, 1], [0, 1], color="0.2", linewidth=0.8)
    for k, (name, calibration) in enumerate(models.items()):
        groups = calibration.groups
        bounds = groups[["low", "high"]].to_numpy().T
        errors = np.abs(bounds - groups["alive"].to_numpy())
        # Models whose groups expect the same lie a little apart.
        beside = 0.006 * (k - 1)
        axes.errorbar(
            groups["expected"] + beside,
            groups["alive"],
            errors,
            fmt="o",
            markersize=5,
            color=MODEL_COLOURS[k],
            label=name,
            elinewidth=1,
        )
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel=f"expected to be alive on day {horizon:.0f}",
        ylabel="alive (Kaplan-Meier)",
        aspect="equal",
    )


def _draw_deaths(axes: Axes, models: Mapping[str, Calibration]) -> None:
    """Deaths in each bin of the survival probability that was given for their day."""
    for colour, (name, calibration) in zip(MODEL_COLOURS, models.items(), strict=False):
        edges = np.linspace(0, 1, len(calibration.deaths) + 1)
        axes.stairs(
            calibration.deaths,
            edges,
            color=colour,
            linewidth=1.6,
            label=f"{name}, p = {calibration.p:.2f}",
        )
    # Equally many deaths in each bin are what a calibrated model has; models have the same patients, so one line does.
    axes.axhline(calibration.deaths.mean(), color="0.2", linewidth=0.8)
    axes.set(
        xlabel="probability to be alive that was given for the day of death",
        ylabel="deaths",
        ylim=(0, None),
    )


def draw_importances(importances: pd.DataFrame, title: str, shown: int = 12) -> Figure:
    """The features that a model would miss most, with intervals over the folds, a panel for each cohort.

    Args:
        importances: rows `cohort`, `feature`, `loss`, `low`, `high`, the largest loss first.
    """
    cohorts = list(importances["cohort"].unique())
    figure = Figure(figsize=(9.4, 4.2), layout="constrained")
    panels = figure.subplots(1, len(cohorts), squeeze=False)[0]
    for cohort, axes in zip(cohorts, panels, strict=True):
        largest = importances[importances["cohort"] == cohort].head(shown)
        # Reversed, because the axis rises: the largest loss is on top.
        mine = largest.iloc[::-1]
        axes.hlines(mine["feature"], mine["low"], mine["high"], color=SHAPE_COLOUR, linewidth=2)
        axes.scatter(mine["loss"], mine["feature"], color=SHAPE_COLOUR, s=28, zorder=3)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set(xlabel="loss of concordance when shuffled")
        axes.set_title(cohort, fontsize="medium")
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(title)
    return figure


def draw_changes(
    pairs: pd.DataFrame,
    names: Mapping[str, str],
    title: str,
    columns: int = 4,
) -> Figure:
    """Features from predicted masks against those from expert masks, a dot for each patient.

    Args:
        pairs: rows `feature`, `expert`, `predicted`.
        names: feature > unit.
    """
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    # The last row may have more panels than features.
    for (name, unit), axes in zip(names.items(), panels, strict=False):
        mine = pairs[pairs["feature"] == name].dropna()
        axes.scatter(mine["expert"], mine["predicted"], s=18, alpha=0.75, color=SHAPE_COLOUR)
        # A feature may have no patient with both values.
        if len(mine):
            both = mine[["expert", "predicted"]].to_numpy()
            ends = [both.min(), both.max()]
            axes.plot(ends, ends, color="0.2", linewidth=0.8)
        # Ratios have no unit, and names of features in mm or ml end in it.
        heading = name if unit in ("1", "mm", "ml") else f"{name}, {unit}"
        axes.set_title(heading, fontsize="small")
        axes.tick_params(labelsize="x-small")
    for axes in figure.axes[len(names) :]:
        axes.set_axis_off()
    figure.supxlabel("from reference masks", fontsize="small")
    figure.supylabel("from predicted masks", fontsize="small")
    figure.suptitle(title)
    return figure
