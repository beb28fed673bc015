"""A report as one HTML page that needs nothing else: pictures, plots, style and script are inside it."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup, escape

from brain_tumor.reporting.formatting import is_numeric, mark_title, read_number, write_cell
from brain_tumor.reporting.interactive_plot import Plot, fill
from brain_tumor.reporting.pictures import encode_photo, find_kind, lay_strip

LONG = 25
"""Rows from which a table scrolls on a screen; on paper all are shown."""

FILTERED = 12
"""Rows from which a table has a filter and can be saved as CSV."""


class Words(NamedTuple):
    """What a picture means, for all; and what is in it, for those who can't see it."""

    caption: str
    alt: str


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        content: PNG, or GIF: an animation, which becomes a slider.
        of: what it is of, such as a network; said before the words that stand for it.
        photo: scans or other photographs, which are embedded as WebP: a fifth of the size.
        wide: too many details for the width of the text; it may be as wide as the window.
        frame: what a frame of an animation is.
    """

    content: bytes
    words: Words
    of: str = ""
    photo: bool = False
    wide: bool = False
    frame: str = "slice"

    @property
    def data(self) -> str:
        """The picture as a data URI."""
        content = encode_photo(self.content) if self.photo else self.content
        encoded = base64.b64encode(content).decode()
        return f"data:image/{find_kind(content)};base64,{encoded}"

    @property
    def alt(self) -> str:
        """Words in the picture's place."""
        alt = self.words.alt
        return f"{self.of}: {alt}" if self.of else alt

    @property
    def film(self) -> dict[str, object] | None:
        """Of an animation: all frames below each other as a data URI, how many, and the size of one."""
        # Figures are PNG; only an animation is a GIF.
        if find_kind(self.content) != "gif":
            return None
        content, frames, width, height = lay_strip(self.content)
        encoded = base64.b64encode(content).decode()
        data = f"data:image/webp;base64,{encoded}"
        return {"data": data, "frames": frames, "width": width, "height": height}


Table = tuple[str, pd.DataFrame]
"""A caption and the rows."""


class Link(NamedTuple):
    """A page beside this one."""

    words: str
    address: str


@dataclass(frozen=True)
class HeatMap:
    """A table whose numbers are shaded between the lowest and the highest, as far as they are told which way is better.

    Attributes:
        shaded: columns whose values are compared with each other.
    """

    caption: str
    data: pd.DataFrame
    shaded: Sequence[str]

    def shade(self, column: str, value: object) -> int | None:
        """0 for the lowest number in the shaded columns to 100 for the highest; None for a cell without shade."""
        number = read_number(value) if column in self.shaded else None
        if number is None:
            return None
        cells = [cell for name in self.shaded for cell in self.data[name]]
        # Cells with a dash have no number.
        numbers = [each for each in map(read_number, cells) if each is not None]
        low, high = min(numbers), max(numbers)
        # Equal numbers have equal shades, in the middle.
        if high <= low:
            return 50
        return round(100 * (number - low) / (high - low))


@dataclass(frozen=True)
class Fold:
    """What most readers need not see: a line that opens sentences and tables."""

    summary: str
    text: str = ""
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Section:
    """A heading, a few sentences, links, tables with their captions, plots, pictures; then what is folded.

    Attributes:
        folded: each of the tables is folded too, under its caption.
    """

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = field(default=())
    plots: Sequence[Plot] = field(default=())
    folds: Sequence[Fold] = ()
    folded: bool = False
    links: Sequence[Link] = ()

    @property
    def anchor(self) -> str:
        """What a link within the page points to."""
        # An id in HTML has no spaces.
        return re.sub(r"\W+", "-", self.heading.lower()).strip("-")


def render_report(
    title: str,
    answer: str,
    table: Table | HeatMap | None,
    sections: Sequence[Section],
    *,
    simulated: bool,
    pictures: Sequence[Picture] = (),
) -> str:
    """The page: the answer in one sentence, pictures, the table that the answer is taken from, then the sections.

    What is simulated says so.
    """
    # A table that isn't shaded is a heat map without shaded columns: the template has one kind.
    shown = {
        "title": mark_title(title, simulated=simulated),
        "answer": answer,
        "pictures": pictures,
        "table": HeatMap(*table, ()) if isinstance(table, tuple) else table,
        "sections": sections,
        "simulated": simulated,
    }
    tools = {"cell": _cell, "break_name": _break_name, "write": _write, "columns_of": _columns}
    return fill("page.html.jinja", long=LONG, filtered=FILTERED, **tools, **shown)


def _write(text: str) -> Markup:
    """Sentences; what stands in backticks is a name of a file or a setting."""
    # Escaped first: only tags of our own are left.
    escaped = str(escape(text))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))  # noqa: S704


def _cell(value: object) -> Markup:
    """As cards write it. What stands in brackets after a number, such as its interval, is on a smaller second line."""
    text = str(escape(write_cell(value)))
    return Markup(re.sub(r"^([+-]?\d\S*) (\([^()]*\))$", r"\1 <small>\2</small>", text))  # noqa: S704


def _break_name(name: object) -> Markup:
    """A name which may end a line between its words, such as those of ClassicUNet."""
    escaped = str(escape(name))
    return Markup(re.sub(r"(?<=[a-z_])(?=[A-Z])", "<wbr>", escaped))  # noqa: S704


def _columns(data: pd.DataFrame) -> list[tuple[Markup, str]]:
    """Each column's heading, which may end a line at its underscores, and whether it holds numbers or text."""
    columns = []
    for k, name in enumerate(data.columns):
        escaped = str(escape(name))
        heading = Markup(escaped.replace("_", "_<wbr>"))  # noqa: S704
        # By number and not by name: two columns may have one name.
        kind = "number" if is_numeric(data.iloc[:, k]) else "text"
        columns.append((heading, kind))
    return columns
