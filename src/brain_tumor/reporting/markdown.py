"""Model cards (after Mitchell et al. 2019) and data sheets (after Gebru et al. 2021) as Markdown."""

from collections.abc import Iterable, Sequence

import pandas as pd

from brain_tumor.reporting.formatting import is_numeric, mark_title, write_cell
from brain_tumor.reporting.page import Section

CARD = "Mitchell et al. 2019, Model cards for model reporting, FAT* 2019, 10.1145/3287560.3287596"
SHEET = "Gebru et al. 2021, Datasheets for datasets, CACM 64(12), 10.1145/3458723"

SIMULATED = (
    "> **SIMULATED.** Everything here is from phantoms made by the project: figures say that the pipeline "
    "works, nothing about people."
)


def render_card(title: str, summary: str, sections: Sequence[Section], *, simulated: bool) -> str:
    """The card: what it is about in a sentence, that it is not for clinical use, then the sections.

    Their texts are Markdown.
    """
    said = f"**Not for clinical use.** {summary}"
    parts = [
        f"# {mark_title(title, simulated=simulated)}",
        *([SIMULATED] if simulated else []),
        said,
        "Written by the run from the tables that it saved.",
    ]
    for section in sections:
        parts += [f"## {section.heading}", *([section.text] if section.text else [])]
        for caption, data in section.tables:
            parts += [f"{caption}:", write_table(data)]
    return "\n\n".join(parts) + "\n"


def write_table(data: pd.DataFrame) -> str:
    """A Markdown table, numbers to the right."""
    rules = ["--:" if is_numeric(data.iloc[:, k]) else ":--" for k in range(data.shape[1])]
    return "\n".join(
        f"| {' | '.join(map(_cell, row))} |" for row in (data.columns, rules, *data.itertuples(index=False))
    )


def write_list(items: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {item}" for item in items)


def _cell(value: object) -> str:
    return write_cell(value).replace("|", "\\|").replace("\n", " ")
