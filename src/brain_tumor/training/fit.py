"""The one way to train a network."""

import logging
import sys
import warnings
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from time import perf_counter

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from brain_tumor.training.device import choose_device
from brain_tumor.training.settings import EngineSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What training leaves behind.

    Attributes:
        weights: of the epoch that validated best.
        log: one row an epoch: losses, validation scores, learning rate, seconds.
        best: the best epoch's row.
    """

    weights: dict[str, Tensor]
    log: pd.DataFrame
    best: dict[str, float]


def fit(
    task: lightning.LightningModule, train: DataLoader, validation: DataLoader, *, monitor: str, epochs: int, patience: int, engine: EngineSettings
) -> Fitted:
    """Train `task.network`, keep the weights that validate best.

    Args:
        monitor: the logged score that should rise.
        patience: epochs without a higher score before training stops.
    """
    device = choose_device(engine)
    logger.info("training %s parameters on %s", f"{sum(p.numel() for p in task.parameters()):,}", device)
    log = EpochLog(monitor)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # Lightning sets INFO when it is imported
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")  # slices are in memory already
        warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")  # of torch 2.13 to Lightning 2.6
        warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
        best = ModelCheckpoint(folder, monitor=monitor, mode="max", save_weights_only=True)
        stop = EarlyStopping(monitor, mode="max", patience=patience)
        trainer = lightning.Trainer(
            accelerator=device.accelerator,
            devices=1,
            precision=device.precision,
            max_epochs=epochs,
            callbacks=[log, best, stop],
            enable_progress_bar=sys.stderr.isatty(),
            logger=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        device.place(task)
        trainer.fit(task, train, validation)
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    weights = {name.removeprefix(prefix): value.contiguous() for name, value in state.items() if name.startswith(prefix)}
    table = pd.DataFrame(log.rows)
    return Fitted(weights, table, table.loc[table[monitor].idxmax()].to_dict())


class EpochLog(Callback):
    """One row and one quiet line an epoch."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Start the clock."""
        self.start = perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Note the epoch, validation included."""
        scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append({"epoch": trainer.current_epoch + 1} | scores | {"learning_rate": rate, "seconds": perf_counter() - self.start})
        row = self.rows[-1]
        logger.info(
            "epoch %d of at most %d: loss %.4f, %s %.4f, %.1f s",
            row["epoch"],
            trainer.max_epochs,
            row["train_loss"],
            self.monitor,
            row[self.monitor],
            row["seconds"],
        )
