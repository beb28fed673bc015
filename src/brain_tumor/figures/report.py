"""A report as one HTML page that needs nothing else: pictures are inside it."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Picture:
    """A PNG or GIF with what it shows in words, for those who can't see it too."""

    content: bytes
    caption: str

    @property
    def data(self) -> str:
        """The picture as a data URI."""
        kind = "gif" if self.content.startswith(b"GIF8") else "png"
        return f"data:image/{kind};base64," + base64.b64encode(self.content).decode()


@dataclass(frozen=True)
class Section:
    """A heading, a few sentences, tables with their captions, pictures."""

    heading: str
    text: str = ""
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    pictures: Sequence[Picture] = field(default=())


def render_report(title: str, answer: str, sections: Sequence[Section], *, simulated: bool) -> str:
    """The page: the answer in one sentence first, then the sections."""
    environment = Environment(loader=PackageLoader("brain_tumor.figures", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("report.html.jinja").render(title=title, answer=answer, sections=sections, simulated=simulated, cell=_cell)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
