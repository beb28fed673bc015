"""Several processes that train together, on one machine or many."""

import builtins
import logging
import os
import pickle
from collections.abc import Callable
from typing import Any

from brain_tumor.training.settings import EngineSettings

logger = logging.getLogger(__name__)


class OtherMachineGoesOn(Exception):  # nothing is wrong  # noqa: N818
    """Training on several machines is done, and this is not the one that goes on with the result."""


class TrainingStopped(RuntimeError):  # an error of training, which the name says  # noqa: N818
    """One of several training processes refused what it was given."""


def launch(train: Callable[[int], None], name: str, engine: EngineSettings) -> None:
    """Run `train(rank)` in each of the processes asked for; one process is this one.

    Processes are spawned by torch's elastic launcher inside this one, not by starting the command line again. When one
    fails, the others are stopped and its error is raised here.

    Raises:
        OtherMachineGoesOn: on all machines but the first, when training is done; nothing else is to be computed or
            written there.
        TrainingStopped: if a process failed for what it was given.
        RuntimeError: if it failed otherwise.
    """
    if engine.devices * engine.nodes == 1:
        train(0)
        return
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=engine.nodes,
        max_nodes=engine.nodes,
        nproc_per_node=engine.devices,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint=engine.rendezvous or "localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    try:
        ranks = elastic_launch(config, _run)(pickle.dumps(train))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise _explain(rank, failure.message) from error
    if 0 not in ranks.values():
        raise OtherMachineGoesOn("trained; the first machine goes on with the result")


def _explain(rank: int, message: Any) -> RuntimeError:
    """An error in the words of a process's own; of a fault of the program with its traceback."""
    words, traceback = str(message), ""
    if isinstance(message, dict):  # of an exception; of a signal it is text
        words, traceback = message["message"], message["extraInfo"]["py_callstack"]
    kind = getattr(builtins, words.partition(":")[0], None)
    if isinstance(kind, type) and issubclass(kind, ValueError | OSError):
        return TrainingStopped(f"training stopped in process {rank}: {words.partition(':')[2].strip()}")
    return RuntimeError(f"training stopped in process {rank}: {words}\n{traceback}")


def _run(train: bytes) -> int:
    """Take part in training, pickled.

    Tensors would come in memory that processes share, little of which there may be.
    """
    rank = int(os.environ["RANK"])
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s")
    pickle.loads(train)(rank)  # of the process that started this one  # noqa: S301
    return rank
