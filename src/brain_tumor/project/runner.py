"""Kedro's ParallelRunner, whose processes have the project's hooks however they are started, and end with the run."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, get_start_method
from types import FrameType, TracebackType
from typing import Any

from kedro import runner
from kedro.framework import project
from kedro.runner.parallel_runner import ParallelRunnerManager

LOOK_EVERY = 0.5
"""Seconds after which a process looks again whether the run is still there."""


class ParallelRunner(runner.ParallelRunner):
    """Nodes in processes of their own.

    Where these are spawned, as on macOS, Kedro's own runner starts them without hooks.
    """

    def __init__(self, max_workers: int | None = None, is_async: bool = False) -> None:  # as Kedro calls it
        super().__init__(max_workers, is_async)
        # Kedro's own would outlive a run that is killed.
        self._manager.shutdown()
        self._manager = ParallelRunnerManager()
        self._manager.start(_end_with_run, (os.getpid(), get_start_method()))

    def _get_executor(self, max_workers: int) -> Executor:
        context = get_context(os.environ.get("KEDRO_MP_CONTEXT"))
        configure = partial(_configure, str(project.PACKAGE_NAME), os.getpid(), context.get_start_method())
        return Workers(max_workers, context, initializer=configure)


class Workers(ProcessPoolExecutor):
    """Processes that are ended when the run is told to end, by SIGTERM too, instead of finishing their nodes."""

    def __enter__(self) -> "Workers":
        self._before: Any = None
        # Only the main thread may set handlers.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _end)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if kind is not None and not issubclass(kind, Exception):
            for process in list((self._processes or {}).values()):
                process.terminate()
        try:
            return super().__exit__(kind, error, trace)
        finally:
            if self._before is not None:
                signal.signal(signal.SIGTERM, self._before)


def _end(number: int, frame: FrameType | None) -> None:  # what a handler is given  # noqa: ARG001
    # The status that shells give to a program that a signal ends.
    sys.exit(128 + number)


def _configure(package: str, run: int, start_method: str) -> None:
    """Give a spawned process settings and logging, and let it end when the run has ended without it.

    Not by `configure_project`, after which Kedro nests its logging in itself, once for each node, and fails at the
    second.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_run(run, start_method)
    if project.PACKAGE_NAME is None:  # a forked process has what the first one has
        project.settings.configure(f"{package}.settings")
        project.LOGGING.set_project_logging(package)


def _end_with_run(run: int, start_method: str) -> None:
    """Let this process end when the run does. One that is killed ends nothing, and its processes would keep its locks.

    Args:
        run: its process.
        start_method: how this one was started; a fork server is the parent of those that it starts, and ends with it.
    """
    parent = os.getppid() if start_method == "forkserver" else run

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
