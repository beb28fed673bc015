"""Tables that come from memory or from a CSV file: both must give the same."""

import pandas as pd


def with_text(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table with columns of text in which nothing is "": a CSV file gives NaN for it, a node None or ""."""
    return table.assign(
        **{
            name: table[name].astype(object).where(table[name].notna(), "").astype(str)
            for name in columns
            if name in table
        }
    )
