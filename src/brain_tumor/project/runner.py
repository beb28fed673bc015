"""Kedro's ParallelRunner, whose processes have the project's hooks however they are started."""

import os
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from kedro import runner
from kedro.framework import project


class ParallelRunner(runner.ParallelRunner):
    """Nodes in processes of their own.

    Where these are spawned, as on macOS, Kedro's own runner starts them without hooks.
    """

    def _get_executor(self, max_workers: int) -> Executor:
        context = get_context(os.environ.get("KEDRO_MP_CONTEXT"))
        return ProcessPoolExecutor(max_workers, context, initializer=partial(_configure, str(project.PACKAGE_NAME)))


def _configure(package: str) -> None:
    """Give a spawned process settings and logging.

    Not by `configure_project`, after which Kedro nests its logging in itself, once for each node, and fails at the
    second.
    """
    if project.PACKAGE_NAME is None:  # a forked process has what the first one has
        project.settings.configure(f"{package}.settings")
        project.LOGGING.set_project_logging(package)
