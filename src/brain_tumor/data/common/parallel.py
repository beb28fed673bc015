"""The same work for each patient or part of the images, on all cores or on a Dask cluster, and how far it is."""

import logging
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from time import monotonic
from typing import Annotated, Any, Literal, Protocol, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor
from pydantic import BaseModel, Field
from tqdm import tqdm

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
"""Of the progress in a log."""

IDLE_S = 30
"""Seconds after which a process without work ends, and its memory is free: joblib waits for five minutes."""

T = TypeVar("T")


class WorkerSettings(BaseModel, frozen=True, extra="forbid"):
    """Who does the work.

    Attributes:
        workers: processes; -1 is one for each core, or none but this one where nodes run side by side.
        dask: address of a Dask scheduler (`tcp://host:8786`) whose workers see the same files; they do the work
            instead.
    """

    workers: Literal[-1] | Annotated[int, Field(ge=1)] = -1
    dask: str | None = None


def parallel_map(
    work: Callable[..., T],
    tasks: Iterable[tuple[Any, ...]],
    settings: WorkerSettings,
    label: str,
    unit: str = "patient",
) -> Iterator[T]:
    """Results of `work(*task)` in the order of the tasks, as they are ready, with their progress.

    A few tasks are under way at any time, so memory doesn't grow with their number as long as results are consumed.
    """
    tasks = list(tasks)
    # Settings other than the defaults are obeyed even where nodes run side by side.
    alone = len(tasks) < 2 or (settings == WorkerSettings() and in_worker_process())
    with _backend(settings):
        parallel = joblib.Parallel(n_jobs=1 if alone else settings.workers, return_as="generator")
        done = parallel(joblib.delayed(work)(*task) for task in tasks)
        try:
            yield from _track(done, len(tasks), label, unit)
        finally:
            # At its end such a process waits for its own, which are idle for a while.
            if not alone and in_worker_process():
                get_reusable_executor().shutdown()


def track(items: Collection[T], label: str, unit: str = "patient") -> Iterator[T]:
    """The same items, with their progress: an item is done when the next one is asked for."""
    return _track(items, len(items), label, unit)


def _track(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    with show_progress(total, label, unit) as progress:
        for item in items:
            yield item
            progress.update()


class Progress(Protocol):
    """What is told how much is done."""

    def update(self, n: int = 1) -> Any:
        """So many more are done."""


@contextmanager
def show_progress(total: int, label: str, unit: str = "patient") -> Iterator[Progress]:
    """A bar with the time left in a terminal, elsewhere a line in the log every half minute.

    Args:
        label: what is being done, as "segmenting with UNet".
        unit: what is counted, in the singular; "B" for bytes.
    """
    if progress_enabled():
        with tqdm(total=total, desc=label, unit=unit, unit_scale=unit == "B") as bar:
            yield bar
    else:
        yield ProgressLog(total, label, unit)


class ProgressLog:
    """A line in the log every half minute: "segmenting: 12 of 100 patients, about 4 min left".

    Work that takes less than that says nothing.
    """

    def __init__(self, total: int, label: str, unit: str, clock: Callable[[], float] = monotonic) -> None:
        self.total, self.label, self.unit, self.clock = total, label, unit, clock
        self.done = 0
        self.start = self.last = clock()

    def update(self, n: int = 1) -> None:
        """So many more are done. The last line isn't logged: the caller logs the end."""
        self.done += n
        now = self.clock()
        if now - self.last < SECONDS_BETWEEN_LINES or self.done >= self.total:
            return
        self.last = now
        seconds_each = (now - self.start) / self.done
        left = format_time(seconds_each * (self.total - self.done))
        logger.info("%s: %s, about %s left", self.label, self._count(), left)

    def _count(self) -> str:
        if self.unit == "B":
            return f"{tqdm.format_sizeof(self.done)}B of {tqdm.format_sizeof(self.total)}B"
        return f"{self.done:,} of {self.total:,} {self.unit}s"


def format_time(seconds: float) -> str:
    """A time in the words of somebody who waits: 40 s, 4 min, 3 h."""
    if seconds < 90:
        tens = round(seconds, -1)
        return f"{max(10, tens):.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{seconds / 3600:.0f} h"


def in_worker_process() -> bool:
    """Whether this is one of several processes that share the machine, as the nodes of a ParallelRunner are."""
    return parent_process() is not None


def progress_enabled() -> bool:
    """Whether progress bars can be seen: in a terminal, where no other process writes its own over them."""
    return sys.stderr.isatty() and not in_worker_process()


@contextmanager
def _backend(settings: WorkerSettings) -> Iterator[None]:
    if settings.dask is None:
        with joblib.parallel_config("loky", idle_worker_timeout=IDLE_S):
            yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("preparation.dask needs Dask: pip install 'brain-tumor-mri[distributed]'") from error
    with Client(settings.dask, set_as_default=False) as client, joblib.parallel_config("dask", client=client):
        yield
