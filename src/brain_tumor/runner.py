"""Kedro's ParallelRunner, whose processes have the project's hooks however they are started."""

import os
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

from kedro import runner
from kedro.framework import project


class ParallelRunner(runner.ParallelRunner):
    """Nodes in processes of their own. Where these are spawned, as on macOS, Kedro's own runner starts them without hooks."""

    def _get_executor(self, max_workers: int) -> Executor:
        context = get_context(os.environ.get("KEDRO_MP_CONTEXT"))
        return ProcessPoolExecutor(max_workers, context, initializer=_configure, initargs=(project.PACKAGE_NAME,))


def _configure(package: str) -> None:
    if project.PACKAGE_NAME is None:  # a forked process has all that the first one has
        project.configure_project(package)
