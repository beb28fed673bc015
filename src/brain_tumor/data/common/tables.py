"""Tables that come from memory or from a CSV file: both must give the same."""

import pandas as pd


def with_text(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table with columns of text in which nothing is "": a CSV file gives NaN for it, a node None or ""."""
    result = table.copy()
    for name in columns:
        if name in table:
            # As objects: a column that is empty in a CSV file has numbers, which can't hold "".
            values = table[name].astype(object)
            result[name] = values.where(values.notna(), "").astype(str)
    return result
