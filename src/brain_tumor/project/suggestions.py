"""What a misspelt name was meant to be."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 4
"""Names that are suggested, at most."""

LISTED = 12
"""Names that are all listed, at most."""


def nearest(word: str, names: Iterable[str]) -> list[str]:
    """Names that a word may stand for.

    They end in it, or it abbreviates them (`lr`), or they are spelled nearly so, or it is a part of them; in this
    order.

    >>> nearest("lr", ["epochs", "learning_rate"])
    ['learning_rate']
    >>> nearest("classic_unet", ["segmentation.classic_unet", "segmentation.recipe"])
    ['segmentation.classic_unet']
    """
    last = {name: name.rpartition(".")[2] for name in names}
    ends = [name for name in last if f".{name}".endswith(f".{word}")]
    abbreviated = [name for name, end in last.items() if _abbreviate(end) == word]
    close = get_close_matches(word, last, n=1)
    # The blocks before a name make it long, and a short word unlike it.
    if not close:
        alike = get_close_matches(word, last.values(), n=1)
        close = [name for name, end in last.items() if end in alike]
    parts = [name for name in last if name.startswith(word) or word in re.split(r"[._]", name)]
    suggestions = ends or abbreviated or close or parts
    return suggestions[:SHOWN]


def _abbreviate(name: str) -> str:
    """The first letters of its words: `lr` for `learning_rate`."""
    return "".join(word[:1] for word in name.split("_"))


def did_you_mean(suggestions: list[str]) -> str:
    """The suggestions as a question, empty without any."""
    if not suggestions:
        return ""
    *first, last = [f"'{name}'" for name in suggestions]
    if not first:
        return f"did you mean {last}?"
    return f"did you mean {', '.join(first)} or {last}?"


def explain_unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """That there is nothing of that name, what was probably meant, and what there is unless that is much."""
    names = sorted(other for other in known if not other.startswith(("_", ".")))
    question = did_you_mean(nearest(name, names))
    listed = f"{kind}s are {', '.join(names)}"
    if len(names) > LISTED:
        listed = "" if question else f"none of the {len(names)} {kind}s has a name like it"
    hints = " ".join(filter(None, [question, listed]))
    return f"there is no {kind} '{name}'; {hints}"
