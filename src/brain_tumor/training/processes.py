"""Several processes that train together, on one machine or many."""

import logging
import os
import pickle
import sys
from collections.abc import Callable

from brain_tumor.training.settings import EngineSettings

logger = logging.getLogger(__name__)


def launch(train: Callable[[int], None], name: str, engine: EngineSettings) -> None:
    """Run `train(rank)` in each of the processes asked for; one process is this one.

    Processes are spawned by torch's elastic launcher inside this one, not by starting the command line again. When one fails, the others are
    stopped and its error is raised here. On all machines but the first, this process ends when training does.
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
        raise RuntimeError(f"training stopped in process {rank}: {failure.message}") from error
    if 0 not in ranks.values():
        logger.info("trained; the first machine goes on with the result")
        sys.exit()


def _run(train: bytes) -> int:
    """Take part in training, pickled: tensors would come in memory that processes share, little of which there may be."""
    rank = int(os.environ["RANK"])
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s")
    pickle.loads(train)(rank)  # noqa: S301  # of the process that started this one
    return rank
