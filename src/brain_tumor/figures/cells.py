"""Values of tables as words, the same in reports and in cards."""

import math
import re

import pandas as pd

NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?( \(.*\))?|–|")
"""A number, perhaps with its interval; a dash or nothing where there is none."""


def write_cell(value: object) -> str:
    """Three decimals, fewer for large numbers, two digits for tiny ones; a dash for what isn't there."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _write_float(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _write_float(value: float) -> str:
    if math.isnan(value):
        return "–"
    if 0 < abs(value) < 0.0005:
        return f"{value:.1e}"
    return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def is_numeric(column: pd.Series) -> bool:
    """Whether a column reads best aligned to the right."""
    return all(NUMBER.fullmatch(write_cell(value)) for value in column.tolist())
