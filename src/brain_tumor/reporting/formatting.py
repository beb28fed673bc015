"""Values of tables as words, the same in reports and in cards."""

import math
import re
from collections.abc import Mapping, Sequence

import pandas as pd

NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?( \(.*\))?|–|")
"""A number, perhaps with its interval; a dash or nothing where there is none."""


def write_cell(value: object) -> str:
    """Three decimals, fewer for large numbers, two digits for tiny ones; a dash for what isn't there."""
    # Before int, because True and False are integers to Python.
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _write_float(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _write_float(value: float) -> str:
    if math.isnan(value):
        return "–"
    # Three decimals would show a smaller value as 0.
    if 0 < abs(value) < 0.0005:
        return f"{value:.1e}"
    return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def read_number(cell: object) -> float | None:
    """The number that a cell starts with; None where there is none."""
    found = re.match(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?", str(cell))
    # Commas part the thousands.
    return float(found[0].replace(",", "")) if found else None


def write_interval(
    value: float,
    low: float,
    high: float,
    form: str = ".3f",
    limits: str = "",
) -> str:
    """A value with its interval, alone where it has none; a dash where there is no value.

    Args:
        limits: format of the interval's ends, if another than `form`.
    """
    if pd.isna(value):
        return "–"
    if pd.isna(low):
        return f"{value:{form}}"
    limits = limits or form
    return f"{value:{form}} ({low:{limits}} to {high:{limits}})"


def tell_interval(low: float, high: float, form: str) -> str:
    """The interval within a sentence."""
    if pd.isna(low):
        return "no interval"
    return f"95 % interval {low:{form}} to {high:{form}}"


def write_intervals(table: pd.DataFrame, value: str = "value") -> list[str]:
    """The value of each row with its interval, from the columns `low` and `high`."""
    rows = table[[value, "low", "high"]].to_numpy(float)
    return [write_interval(*row) for row in rows]


def with_intervals(
    table: pd.DataFrame,
    value: str,
    index: list[str],
    across: str = "target",
) -> pd.DataFrame:
    """A column for each target (or whatever there is one for), in it the value and its interval.

    Rows and columns in the order in which they come.
    """
    worded = table.assign(words=write_intervals(table, value))
    wide = worded.pivot(index=index, columns=across, values="words")
    # A pivot sorts both axes by name.
    rows = table.set_index(index).index.unique()
    columns = list(table[across].unique())
    return wide.loc[rows, columns].reset_index()


def write_epochs(kept: Sequence[Mapping[str, float]]) -> str:
    """Of each member of a network, the epoch whose weights it has."""
    return ", ".join(f"{member['epoch']:.0f}" for member in kept)


def write_sizes(sizes: Mapping[str, float]) -> str:
    """A network's keyword arguments."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def mark_title(title: str, *, simulated: bool) -> str:
    """The title, which says it where everything under it is simulated."""
    return f"{title} (SIMULATED)" if simulated else title


def is_numeric(column: pd.Series) -> bool:
    """Whether a column reads best aligned to the right."""
    # Cells as they are shown: a column of numbers with intervals is text to pandas.
    return all(NUMBER.fullmatch(write_cell(value)) for value in column.tolist())
