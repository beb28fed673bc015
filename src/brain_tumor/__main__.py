"""`python -m brain_tumor`: the same as `kedro run`."""

import sys
from pathlib import Path

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: str) -> None:
    """Run the project with the command line's arguments."""
    package = Path(__file__).parent.name
    configure_project(package)
    find_run_command(package)(list(args) or sys.argv[1:], standalone_mode=True)


if __name__ == "__main__":
    main()
