"""Lines such as `<!-- catalog: conf/base/catalog.yml -->` are filled in when the site is built.

The reports of the last run, and the notebooks executed on its results, are added to the site as examples.
`python docs/hooks.py` writes the figures of docs/figures.yml into README.md and the pages.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from brain_tumor.cli import run, submit
from brain_tumor.data.common.renamed import PARAMETERS
from brain_tumor.pipeline_registry import register_pipelines

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "data/08_reporting"
EXAMPLES = {"segmentation": "segmentation", "classification": "classification", "survival": "survival/expert"}
"""Notebook > folder of the report on the same results."""

FIGURE = re.compile(r"<!--(\w+)-->.*?<!--/-->")
"""A figure that stands on several pages, between its name and an end mark."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page with what its comments ask for."""
    return re.sub(
        r"^<!-- (\w+)(?:: (.+))? -->$", lambda match: FILLED[match[1]](match[2]), markdown, flags=re.MULTILINE
    )


def find_examples() -> dict[str, Path]:
    """Notebook and report of each pipeline that has been run."""
    reports = {name: REPORTS / folder / "report.html" for name, folder in EXAMPLES.items()}
    return {name: report for name, report in reports.items() if report.is_file()}


def list_examples(_: None) -> str:
    """Links to the reports and executed notebooks, or how to get them."""
    # As HTML: links of Markdown are checked against the sources, and these files are made by the build.
    links = [
        f'- {name.capitalize()}: <a href="../examples/{name}_report.html">report</a>, '
        f'<a href="../examples/{name}.html">notebook</a>'
        for name in find_examples()
    ]
    return "\n".join(links) or "This site was built before any run: `make demo`, then `make docs`, adds the examples."


def on_post_build(config: Mapping[str, Any]) -> None:
    """Copy the reports into the site, and execute the notebooks into it.

    Raises:
        subprocess.CalledProcessError: if a cell of a notebook fails.
    """
    folder = Path(config["site_dir"], "examples")
    for name, report in find_examples().items():
        folder.mkdir(exist_ok=True)
        shutil.copy(report, folder / f"{name}_report.html")
        command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "--log-level", "ERROR"]
        command += ["--embed-images", "--output-dir", str(folder), str(ROOT / f"notebooks/{name}.ipynb")]
        subprocess.run(command, check=True)


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


FILLED = {
    "catalog": list_entries,
    "examples": list_examples,
    "help": show_help,
    "pipelines": list_pipelines,
    "renamed": list_renamed,
}


if __name__ == "__main__":
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        page.write_text(insert_figures(page.read_text(encoding="utf-8")), encoding="utf-8")
