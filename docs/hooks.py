"""Lines such as `<!-- catalog: conf/base/catalog.yml -->` are filled in when the site is built.

`python docs/hooks.py` writes the figures of docs/figures.yml into README.md and the pages.
"""

import re
from pathlib import Path

import click
import yaml

from brain_tumor.cli import run, submit
from brain_tumor.data.common.renamed import PARAMETERS
from brain_tumor.pipeline_registry import register_pipelines

ROOT = Path(__file__).parents[1]
FIGURE = re.compile(r"<!--(\w+)-->.*?<!--/-->")
"""A figure that stands on several pages, between its name and an end mark."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page with what its comments ask for."""
    return re.sub(
        r"^<!-- (\w+)(?:: (.+))? -->$", lambda match: FILLED[match[1]](match[2]), markdown, flags=re.MULTILINE
    )


def list_entries(path: str) -> str:
    """A row for each entry of a catalog file."""
    rows = ["| entry | format | file or folder |", "|---|---|---|"]
    for name, entry in yaml.safe_load((ROOT / path).read_text()).items():
        rows.append(f"| `{name}` | `{entry['type'].removeprefix('brain_tumor.datasets.')}` | `{entry['filepath']}` |")
    return "\n".join(rows)


def list_pipelines(_: None) -> str:
    """A row for each pipeline that `--pipelines` takes."""
    rows = ["| pipeline | nodes | experiments |", "|---|---|---|"]
    for name, pipeline in register_pipelines().items():
        experiments = sorted({node.namespace for node in pipeline.nodes if node.namespace and "." in node.namespace})
        rows.append(
            f"| `{name}` | {len(pipeline.nodes)} | "
            f"{', '.join(f'`{experiment}`' for experiment in experiments) or '–'} |"
        )
    return "\n".join(rows)


def show_help(name: str) -> str:
    """What a command says of itself."""
    command = {"run": run, "submit": submit}[name]
    with click.Context(command, info_name=f"kedro {name}", terminal_width=84) as context:
        return f"```text\n{command.get_help(context)}\n```"


def list_renamed(_: None) -> str:
    """A row for each parameter that has another name now."""
    return "\n".join(f"| `{old}` | `{new}` |" for old, new in PARAMETERS.items())


def insert_figures(text: str) -> str:
    """The text with each marked figure as docs/figures.yml has it.

    Raises:
        KeyError: if a mark names no figure.
    """
    figures = yaml.safe_load((ROOT / "docs/figures.yml").read_text(encoding="utf-8"))
    return FIGURE.sub(lambda match: f"<!--{match[1]}-->{figures[match[1]]}<!--/-->", text)


FILLED = {"catalog": list_entries, "help": show_help, "pipelines": list_pipelines, "renamed": list_renamed}


if __name__ == "__main__":
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        page.write_text(insert_figures(page.read_text(encoding="utf-8")), encoding="utf-8")
