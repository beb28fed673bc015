"""Lines such as `<!-- catalog: conf/base/catalog.yml -->` are filled in when the site is built.

The reports of the last run, and the notebooks executed on its results, are added to the site as examples.
`python docs/hooks.py` writes the figures of docs/figures.yml into README.md and the pages.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import yaml

from brain_tumor.cli import classify, nnunet, run, score, segment, submit
from brain_tumor.data.common.renamed import PARAMETERS
from brain_tumor.pipeline_registry import register_pipelines

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "data/08_reporting"
EXAMPLES = {"segmentation": "segmentation", "classification": "classification", "survival": "survival/expert"}
"""Notebook > folder of the report on the same results."""

HELP: dict[str, tuple[str, click.Command]] = {
    "run": ("run", run),
    "submit": ("submit", submit),
    "score": ("score", score),
    "nnunet": ("export nnunet", nnunet),
    "segment": ("segment", segment),
    "classify": ("classify", classify),
}
"""Name in a page > words of the command after `kedro`, and the command."""

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
    links = [
        f"- {name.capitalize()}: [report](../examples/{name}_report.html), [notebook](../examples/{name}.md)"
        for name in find_examples()
    ]
    return "\n".join(links) or "This site was built before any run: `make demo`, then `make docs`, adds the examples."


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the reports, and the executed notebooks as pages."""
    from mkdocs.structure.files import File, InclusionLevel

    for name, report in find_examples().items():
        content: dict[str, str | bytes] = {f"{name}_report.html": report.read_text(encoding="utf-8")}
        # The report links to them.
        for page in report.parent.glob("*/viewers/*.html"):
            content[page.relative_to(report.parent).as_posix()] = page.read_bytes()
        content |= execute_notebook(name, report.stat().st_mtime)
        for path, part in content.items():
            # They are linked from one page, and have no place among the others.
            level = InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, f"examples/{path}", content=part, inclusion=level))
    return files


@cache
def execute_notebook(name: str, made: float) -> dict[str, str | bytes]:  # noqa: ARG001
    """A page in Markdown, and the pictures on it.

    Args:
        made: when its results were made; while pages are written, a notebook is executed once for them.

    Raises:
        subprocess.CalledProcessError: if a cell of the notebook fails.
    """
    # Not as HTML, whose templates load scripts from elsewhere.
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "markdown", "--log-level", "ERROR"]
    with TemporaryDirectory() as folder:
        notebook = str(ROOT / f"notebooks/{name}.ipynb")
        subprocess.run([*command, "--output-dir", folder, notebook], check=True)
        written = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in written}


def list_entries(path: str) -> str:
    """A row for each entry of a catalog file."""
    rows = ["| entry | format | file or folder |", "|---|---|---|"]
    for name, entry in yaml.safe_load((ROOT / path).read_text()).items():
        # Of a place that a parameter may change, what it is without the parameter.
        place = re.sub(r"\$\{runtime_params:\w+, (.*?)\}", r"\1", entry.get("filepath", "given"))
        rows.append(f"| `{name}` | `{entry['type'].removeprefix('brain_tumor.datasets.')}` | `{place}` |")
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
    words, command = HELP[name]
    with click.Context(command, info_name=f"kedro {words}", terminal_width=84) as context:
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
