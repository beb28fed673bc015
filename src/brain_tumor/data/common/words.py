"""Words of messages."""

from collections.abc import Sequence


def list_names(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are.

    >>> list_names(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown
