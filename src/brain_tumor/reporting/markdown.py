"""Model cards (after Mitchell et al. 2019) and data sheets (after Gebru et al. 2021) as Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from brain_tumor.figures.palette import name_network
from brain_tumor.networks import describe
from brain_tumor.networks.trained import TrainedNetwork
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
    parts = [f"# {mark_title(title, simulated=simulated)}"]
    # Before all numbers, so that nobody reads them as those of people.
    if simulated:
        parts.append(SIMULATED)
    parts += [f"**Not for clinical use.** {summary}", "Written by the run from the tables that it saved."]
    for section in sections:
        parts.append(f"## {section.heading}")
        if section.text:
            parts.append(section.text)
        for caption, data in section.tables:
            parts += [f"{caption}:", write_table(data)]
    return "\n\n".join(parts) + "\n"


def write_table(data: pd.DataFrame) -> str:
    """A Markdown table, numbers to the right."""
    # By number and not by name: two columns may have one name.
    columns = [data.iloc[:, k] for k in range(data.shape[1])]
    rules = ["--:" if is_numeric(column) else ":--" for column in columns]
    rows = (data.columns, rules, *data.itertuples(index=False))
    lines = []
    for row in rows:
        cells = " | ".join(map(_cell, row))
        lines.append(f"| {cells} |")
    return "\n".join(lines)


def write_list(items: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {item}" for item in items)


def write_networks(networks: Iterable[TrainedNetwork]) -> str:
    """Each experiment with what its network is, as a list."""
    entries = []
    for network in networks:
        name = name_network(network.experiment)
        # A description begins with the name of the network, which most experiments have too.
        what = describe(network.name).removeprefix(f"{name}: ")
        entries.append(" ".join([f"**{name}**: {what}", *_describe_start(network.description)]))
    return write_list(entries)


def _describe_start(about: Mapping[str, Any]) -> Iterator[str]:
    """Where code from outside and pretrained weights are from; nothing for most networks."""
    code, pretrained = about.get("code", {}), about.get("pretrained")
    if code.get("outside"):
        yield f"Its code is from outside this project: {code['package']}, {code['version'] or 'without a version'}."
    if pretrained:
        how = pretrained["first_convolution"]
        adapted = f"; the first convolution was adapted to the number of channels ({how})" if how else ""
        yield (
            f"It starts from the pretrained weights {pretrained['source']}: {pretrained['fitted']} of "
            f"{pretrained['total']} tensors fit{adapted}. What they were trained on isn't recorded."
        )


def _cell(value: object) -> str:
    # A bar would end the cell, a line break the row.
    return write_cell(value).replace("|", "\\|").replace("\n", " ")
