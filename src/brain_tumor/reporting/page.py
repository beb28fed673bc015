"""A report as one HTML page that needs nothing else: pictures, plots, style and script are inside it."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup, escape

from brain_tumor.reporting.formatting import is_numeric, mark_title, write_cell
from brain_tumor.reporting.interactive_plot import Plot, fill

LONG = 25
"""Rows from which a table scrolls on a screen; on paper all are shown."""


class Words(NamedTuple):
    """What a picture means, for all; and what is in it, for those who can't see it."""

    caption: str
    alt: str


@dataclass(frozen=True)
class Picture:
    """A PNG or GIF. `of`: what it is of, such as a network; said before the words that stand for it."""

    content: bytes
    words: Words
    of: str = ""

    @property
    def data(self) -> str:
        """The picture as a data URI."""
        kind = "gif" if self.content.startswith(b"GIF8") else "png"
        return f"data:image/{kind};base64," + base64.b64encode(self.content).decode()

    @property
    def alt(self) -> str:
        """Words in the picture's place."""
        return f"{self.of}: {self.words.alt}" if self.of else self.words.alt


Table = tuple[str, pd.DataFrame]
"""A caption and the rows."""


@dataclass(frozen=True)
class Section:
    """A heading, a few sentences, tables with their captions, plots, pictures."""

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = field(default=())
    plots: Sequence[Plot] = field(default=())

    @property
    def anchor(self) -> str:
        """What a link within the page points to."""
        return re.sub(r"\W+", "-", self.heading.lower()).strip("-")


def render_report(title: str, answer: str, table: Table | None, sections: Sequence[Section], *, simulated: bool) -> str:
    """The page: the answer in one sentence, the table it is taken from, then the sections.

    What is simulated says so.
    """
    shown = {
        "title": mark_title(title, simulated=simulated),
        "answer": answer,
        "table": table,
        "sections": sections,
        "simulated": simulated,
    }
    return fill("page.html.jinja", cell=_cell, write=_write, columns_of=_columns, long=LONG, **shown)


def _write(text: str) -> Markup:
    """Sentences; what stands in backticks is a name of a file or a setting."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704


def _cell(value: object) -> Markup:
    """As cards write it; an interval is not torn apart at the end of a line."""
    return Markup(  # noqa: S704
        re.sub(r"\([^()]* to [^()]*\)", lambda found: found[0].replace(" ", "&nbsp;"), str(escape(write_cell(value))))
    )


def _columns(data: pd.DataFrame) -> list[tuple[Markup, str]]:
    """Each column's heading, which may end a line at its underscores, and whether it holds numbers or text."""
    headings = [Markup(str(escape(name)).replace("_", "_<wbr>")) for name in data.columns]  # noqa: S704
    return [(heading, "number" if is_numeric(data.iloc[:, k]) else "text") for k, heading in enumerate(headings)]
