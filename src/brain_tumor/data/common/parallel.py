"""The same work for each patient or part of the images, on all cores or on a Dask cluster."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Annotated, Any, Literal, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor
from pydantic import BaseModel, Field
from tqdm import tqdm

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
    """Results of `work(*task)` in the order of the tasks, as they are ready, with a progress bar in a terminal.

    A few tasks are under way at any time, so memory doesn't grow with their number as long as results are consumed.
    """
    tasks = list(tasks)
    alone = len(tasks) < 2 or (settings == WorkerSettings() and in_worker_process())
    with _backend(settings):
        parallel = joblib.Parallel(n_jobs=1 if alone else settings.workers, return_as="generator")
        done = parallel(joblib.delayed(work)(*task) for task in tasks)
        try:
            yield from tqdm(done, total=len(tasks), desc=label, unit=unit, disable=not progress_enabled())
        finally:
            if (
                not alone and in_worker_process()
            ):  # at its end such a process waits for its own, which idle workers are for five minutes
                get_reusable_executor().shutdown()


def in_worker_process() -> bool:
    """Whether this is one of several processes that share the machine, as the nodes of a ParallelRunner are."""
    return parent_process() is not None


def progress_enabled() -> bool:
    """Whether progress bars can be seen: in a terminal, where no other process writes its own over them."""
    return sys.stderr.isatty() and not in_worker_process()


@contextmanager
def _backend(settings: WorkerSettings) -> Iterator[None]:
    if settings.dask is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("preparation.dask needs Dask: pip install 'brain-tumor-mri[distributed]'") from error
    with Client(settings.dask, set_as_default=False) as client, joblib.parallel_config("dask", client=client):
        yield
