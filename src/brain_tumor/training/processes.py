"""Data-parallel training in several processes, on one machine or many."""

import builtins
import logging
import os
import pickle
from collections.abc import Callable
from typing import Any

from brain_tumor.training.settings import EngineSettings

logger = logging.getLogger(__name__)


# Not named an error: nothing is wrong.
class OtherMachineGoesOn(Exception):  # noqa: N818
    """Training on several machines is done, and another one goes on with the result."""


class TrainingStopped(RuntimeError):  # noqa: N818
    """One of several training processes raised a user error, such as a loss that isn't finite."""


def launch(train: Callable[[int], None], name: str, engine: EngineSettings) -> None:
    """Run `train(rank)` in each of the processes that the settings ask for; a single one runs here.

    Raises:
        OtherMachineGoesOn: on all machines but the first, when training is done; nothing else is to be computed or
            written there.
        TrainingStopped: for a user error in a process. The others are stopped.
        RuntimeError: for any other error in a process.
    """
    if engine.devices * engine.nodes == 1:
        train(0)
        return
    # Spawned by torch's elastic launcher from here: starting the command line again would run the whole pipeline.
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
    """The error to raise for that of a process; its traceback is kept unless it is a user error."""
    words, traceback = str(message), ""
    # A dictionary for an exception, text for a signal.
    if isinstance(message, dict):
        words, traceback = message["message"], message["extraInfo"]["py_callstack"]
    # The words start with the name of the exception's class.
    name, _, reason = words.partition(":")
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, ValueError | OSError):
        return TrainingStopped(f"training stopped in process {rank}: {reason.strip()}")
    return RuntimeError(f"training stopped in process {rank}: {words}\n{traceback}")


def _run(train: bytes) -> int:
    """Unpickle `train` and run it in this process."""
    # Pickled by `launch`: torch would pass its tensors in shared memory, of which there may be little.
    rank = int(os.environ["RANK"])
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s")
    # Safe: the bytes are from the process that started this one.
    pickle.loads(train)(rank)  # noqa: S301
    return rank
