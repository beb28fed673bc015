"""Tables of text, and tables that come from memory or from a CSV file."""

from pathlib import Path

import pandas as pd

from brain_tumor.data.common.file_kinds import TO_TABLE, explain

SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""In place of commas."""


class WrongTableError(ValueError):
    """A table that can be read, but not as what it should be."""


def read_table(file: Path) -> pd.DataFrame:
    """A table as text.

    Raises:
        ValueError: if it can't be read.
    """
    try:
        header = [str(name) for name in pd.read_csv(file, dtype=str, nrows=0)]
        for mark, words in SEPARATORS.items():
            if len(header) == 1 and mark in header[0]:
                raise WrongTableError(f"{file} is separated by {words}; save it with commas")
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        if isinstance(table.index, pd.RangeIndex):
            return table
        # rows have more values than the header has names, which pandas takes for names of the rows
        if (table.iloc[:, -table.index.nlevels :] != "").any(axis=None):
            raise WrongTableError(
                f"{file} has rows with more values than its header has names; give each column a name"
            )
        named = table.reset_index().iloc[:, : len(header)]
        return named.set_axis(header, axis=1)
    except WrongTableError:
        raise
    except (OSError, ValueError) as error:
        other = explain(file, TO_TABLE)
        what = other or f"can't be read ({error}); it must be a table of comma-separated values in UTF-8"
        raise ValueError(f"{file} {what}") from error


def with_text(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table with columns of text in which nothing is "": a CSV file gives NaN for it, a node None or ""."""
    result = table.copy()
    for name in columns:
        if name in table:
            # As objects: a column that is empty in a CSV file has numbers, which can't hold "".
            values = table[name].astype(object)
            result[name] = values.where(values.notna(), "").astype(str)
    return result
