"""Fills lines such as `<!-- catalog: conf/base/catalog.yml -->` of the reference pages in when the site is built."""

import re
from pathlib import Path

import click
import yaml

from brain_tumor.cli import run, submit
from brain_tumor.pipeline_registry import register_pipelines

ROOT = Path(__file__).parents[1]


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


FILLED = {"catalog": list_entries, "help": show_help, "pipelines": list_pipelines}
