"""The one way to train a network."""

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import Tensor

from brain_tumor.data.common.parallel import format_time, progress_enabled
from brain_tumor.training.batches import BatchSampler, Rows, count_workers, load
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.device import Device, choose_device
from brain_tumor.training.processes import launch
from brain_tumor.training.settings import EngineSettings, Recipe
from brain_tumor.training.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """All that training needs; can be sent to another process.

    Attributes:
        task: a Lightning module whose `network` is trained.
        monitor: the logged score that should rise.
    """

    task: Task
    train: Rows
    validation: Rows
    monitor: str
    recipe: Recipe
    engine: EngineSettings
    checkpoints: Checkpoints

    @property
    def name(self) -> str:
        """The experiment's: its checkpoints are in `{name}/checkpoints/{fingerprint}`."""
        return self.checkpoints.folder.parents[1].name


@dataclass(frozen=True)
class Fitted:
    """What training leaves behind.

    Attributes:
        weights: of the epoch that the recipe keeps.
        log: one row an epoch: losses, validation scores, learning rate, seconds.
        kept: that epoch's row.
        snapshots: what the task remembered of each epoch.
    """

    weights: dict[str, Tensor]
    log: pd.DataFrame
    kept: dict[str, float]
    snapshots: list[dict[str, Tensor]]


def fit(job: Job) -> Fitted:
    """Train `job.task.network`, keep the weights that the recipe asks for.

    Goes on from the last checkpoint; the weights are those of a run that was never interrupted. Training that has
    finished is not repeated.

    Raises:
        ValueError: if a loss is not finite, naming the batch; the last good checkpoint stays. If batches are too small
            to be shared.
    """
    processes = job.engine.devices * job.engine.nodes
    if job.recipe.batch_size < processes:
        raise ValueError(
            f"a batch of {job.recipe.batch_size} can't be shared by {processes} processes; set batch_size "
            "higher or training.devices lower"
        )
    device = choose_device(job.engine)
    found = job.checkpoints.newest()
    if found and is_finished(found[1]["log"], job):
        logger.info(
            "%s: trained already with these settings on these data; taken from %s (delete the folder to train again)",
            job.name,
            job.checkpoints.folder,
        )
    else:
        logger.info(
            "%s: training %s parameters on %s",
            job.name,
            f"{sum(p.numel() for p in job.task.network.parameters()):,}",
            device,
        )
        if found:
            logger.info("%s: going on after epoch %d, from %s", job.name, len(found[1]["log"]), found[0])
        resume = (found[0], len(found[1]["log"])) if found else None
        try:
            launch(partial(train, job, resume), job.checkpoints.folder.name, job.engine)
        except (KeyboardInterrupt, SystemExit) as interruption:  # Lightning makes the second of the first, with a code
            if getattr(interruption, "code", 1):
                logger.warning("interrupted; the same command goes on after the last epoch that was finished")
            raise
        found = job.checkpoints.newest()
    assert found is not None
    return read_fitted(found[1], job)


def read_fitted(state: dict[str, Any], job: Job) -> Fitted:
    """The result of training from its last checkpoint."""
    prefix, log = "network.", pd.DataFrame(state["log"])
    kept, epoch = (
        (state["best_weights"], log[job.monitor].idxmax())
        if job.recipe.checkpoint == "best"
        else (state["state_dict"], log.index[-1])
    )
    weights = {name.removeprefix(prefix): value.contiguous() for name, value in kept.items() if name.startswith(prefix)}
    return Fitted(weights, log, log.loc[epoch].to_dict(), state["snapshots"])


def is_finished(log: list[dict[str, float]], job: Job) -> bool:
    """Whether all epochs are done, or validation has not improved for as many as a recipe that keeps the best epoch allows."""
    scores = [row[job.monitor] for row in log]
    without = len(scores) - 1 - scores.index(max(scores))
    return len(scores) >= job.recipe.epochs or (job.recipe.checkpoint == "best" and without >= job.recipe.patience)


def train(job: Job, resume: tuple[Path, int] | None, rank: int) -> None:
    """Train in this process, one of `devices` times `nodes`; the last checkpoint holds the result.

    Args:
        resume: checkpoint to go on from, and the epochs done by then.
    """
    engine, recipe, task = job.engine, job.recipe, job.task
    device = choose_device(engine)
    ranks = engine.devices * engine.nodes
    train_order = BatchSampler(job.train, recipe.batch_size, engine.seed, recipe.epoch_steps, rank, ranks)
    validation_order = BatchSampler(job.validation, max(32, ranks), rank=rank, ranks=ranks)
    here = device.of(rank % engine.devices)
    workers = count_workers(engine.loader_workers, engine.devices)
    train_loader = load(job.train, train_order, here, engine.resident_gb, workers)
    validation_loader = load(job.validation, validation_order, here, engine.resident_gb, workers)
    checkpoint, done = resume or (None, 0)
    train_order.set_epoch(done)  # Lightning makes the first iterator before it says which epoch it is
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # Lightning sets INFO when it is imported
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The '.*_dataloader' does not have many workers"
        )  # a store is read in whole batches
        warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")  # of torch 2.13 to Lightning 2.6
        warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
        warnings.filterwarnings(
            "ignore", "It is recommended to use `self.log"
        )  # what is logged is summed over processes already
        trainer = _trainer(job, device, rank)
        device.place(task, rank % engine.devices)
        trainer.fit(task, train_loader, validation_loader, ckpt_path=checkpoint, weights_only=True)


def _trainer(job: Job, device: Device, rank: int) -> lightning.Trainer:
    engine, recipe = job.engine, job.recipe
    many = engine.devices * engine.nodes > 1
    average: list[Callback] = (
        [WeightAveraging(multi_avg_fn=MovingAverage(recipe.ema_decay))] if recipe.ema_decay else []
    )
    return lightning.Trainer(
        accelerator=device.accelerator,
        devices=engine.devices,
        num_nodes=engine.nodes,
        strategy="ddp" if many else "auto",
        plugins=[TorchElasticEnvironment() if many else LightningEnvironment()],
        use_distributed_sampler=False,
        sync_batchnorm=many and device.accelerator == "cuda",
        precision=device.precision,
        max_epochs=recipe.epochs,
        callbacks=[*average, SeedEachBatch(engine.seed), FiniteLoss(job.train), CheckpointAndLog(job)],
        enable_progress_bar=sys.stderr.isatty() if many else progress_enabled(),
        logger=(tracker(job) if rank == 0 else None) or False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def tracker(job: Job) -> MLFlowLogger | None:
    """Where MLflow keeps this training, one run for each folder of checkpoints; None if nothing is tracked."""
    if not job.engine.mlflow:
        return None
    if find_spec("mlflow") is None:
        raise ImportError("training.mlflow needs MLflow: pip install 'brain-tumor-mri[mlflow]'")
    mark = job.checkpoints.folder.name
    note = job.checkpoints.folder / "mlflow_run"
    known = note.read_text(encoding="utf-8") if note.is_file() else None
    tags = {"experiment": job.name, "fingerprint": mark}
    made = MLFlowLogger(
        experiment_name="brain-tumour-mri", run_name=job.name, tracking_uri=job.engine.mlflow, tags=tags, run_id=known
    )
    if not known and made.run_id:
        made.log_hyperparams({**job.recipe.model_dump(), "seed": job.engine.seed, "precision": job.engine.precision})
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(made.run_id, encoding="utf-8")
    return made


@dataclass(frozen=True)
class MovingAverage:
    """An exponential moving average that starts as a plain one, so that the first weights are soon forgotten."""

    keep: float

    def __call__(self, averages: Sequence[Tensor], currents: Sequence[Tensor], count: Tensor | int) -> None:
        """Take one more step into the averages, in place; what is no fraction (a count of batches) is copied."""
        weight = 1 - min(self.keep, (1 + int(count)) / (10 + int(count)))
        for average, current in zip(averages, currents, strict=True):
            average.lerp_(current, weight) if average.is_floating_point() else average.copy_(current)


class SeedEachBatch(Callback):
    """What is random inside a network (dropout) depends on seed, epoch, batch and process, not on what ran before: not on when a loader draws its own seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the batch."""
        torch.manual_seed(hash((self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)))


class FiniteLoss(Callback):
    """Stop at a loss that is not a number, before it is kept in a checkpoint.

    Looked at one batch late: asking at once would make a GPU wait.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.last: tuple[Tensor, Tensor] | None = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the batch before."""
        self._check(trainer)
        self.last = outputs["loss"].detach(), batch["row"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Check the last batch of the epoch."""
        self._check(trainer)
        self.last = None

    def _check(self, trainer: lightning.Trainer) -> None:
        if self.last is None or self.last[0].isfinite():
            return
        table = self.rows.store.rows.iloc[self.last[1].cpu().numpy()]
        names = ", ".join(
            f"{row.file} (slice {row.slice})" if "slice" in table else row.file for row in table.itertuples()
        )
        raise ValueError(
            f"the loss is {self.last[0].item()} in epoch {trainer.current_epoch + 1} on the batch of {names}; "
            "if these files are sound, lower the recipe's learning_rate or set its gradient_clip to 1. The "
            "last good checkpoint is kept"
        )


class CheckpointAndLog(Checkpoint):
    """After each epoch: a row of the log, a checkpoint with the log and the best weights so far, a quiet line.

    Stops training in time.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rows: list[dict[str, float]] = []
        self.best_weights: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Start the clock."""
        self.start = perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Note the epoch, validation included."""
        scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
        if not isfinite(scores["validation_loss"]):
            raise ValueError(
                f"the validation loss is {scores['validation_loss']} in epoch {len(self.rows) + 1}, after "
                "updates that looked sound: "
                "lower the recipe's learning_rate or set its gradient_clip to 1. The last good checkpoint is kept"
            )
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": len(self.rows) + 1} | scores | {"learning_rate": rate, "seconds": perf_counter() - self.start}
        self.rows.append(row)
        self._save(trainer)
        trainer.should_stop = is_finished(self.rows, self.job)
        if trainer.is_global_zero:
            monitor = self.job.monitor
            words = "%s: epoch %d of at most %d, loss %.4f, %s %.4f, %.1f s%s"
            logger.info(
                words,
                self.job.name,
                row["epoch"],
                self.job.recipe.epochs,
                row["train_loss"],
                monitor,
                row[monitor],
                row["seconds"],
                "" if trainer.should_stop else f", at most about {format_time(self._seconds_left())} left",
            )

    def _seconds_left(self) -> float:
        """At the pace of the last epochs: the first one also starts the device."""
        pace = fmean(row["seconds"] for row in self.rows[1:][-5:] or self.rows)
        return pace * (self.job.recipe.epochs - len(self.rows))

    def _save(self, trainer: lightning.Trainer) -> None:
        checkpoints = self.job.checkpoints
        draft = checkpoints.folder / ".draft"  # what a killed run left here is written over
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            checkpoints.keep(draft, len(self.rows))
            pd.DataFrame(self.rows).to_csv(checkpoints.folder / "training_log.csv", index=False)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the log and the best weights; an averaged network's are in `state_dict` by now."""
        scores = [row[self.job.monitor] for row in self.rows]
        if scores[-1] > max(scores[:-1], default=float("-inf")):
            self.best_weights = {name: value.detach().cpu().clone() for name, value in checkpoint["state_dict"].items()}
        checkpoint |= {"log": self.rows, "best_weights": self.best_weights, "snapshots": self.job.task.snapshots}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with the log and the best weights so far."""
        self.rows, self.best_weights = list(checkpoint["log"]), checkpoint["best_weights"]
        self.job.task.snapshots = list(checkpoint["snapshots"])
