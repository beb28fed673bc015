"""`python -m brain_tumor`: the same as `kedro run`; `python -m brain_tumor new FOLDER` makes a project folder."""

import sys
from pathlib import Path

import click

NEW = "new"


@click.command(NEW)
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Make a project folder: settings, notebooks, weights, and where data goes."""
    from brain_tumor.project.template import make_project

    try:
        make_project(folder)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{folder} is ready. Next:\n    cd {folder}\n    kedro run --pipelines segmentation")


def main(*args: str) -> None:
    """Run the project with the command line's arguments, or make a folder for it."""
    words = list(args) or sys.argv[1:]
    if words[:1] == [NEW]:
        new(words[1:], prog_name=f"python -m brain_tumor {NEW}")
        return
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    package = Path(__file__).parent.name
    configure_project(package)
    find_run_command(package)(words, standalone_mode=True)


if __name__ == "__main__":
    main()
