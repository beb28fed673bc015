"""The training loop of all networks, with Lightning."""

import logging
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain
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
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from brain_tumor.data.common.parallel import format_time, progress_enabled
from brain_tumor.networks.cpu import release_freed_memory
from brain_tumor.training.batches import BatchSampler, Rows, count_workers, load
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.device import Device, choose_device, is_out_of_memory
from brain_tumor.training.processes import launch
from brain_tumor.training.settings import EngineSettings, Recipe
from brain_tumor.training.task import Task

logger = logging.getLogger(__name__)

READ_EVERY = 50
"""Batches between two looks at their losses on a GPU: each look makes the host wait for the device."""


@dataclass(frozen=True)
class Job:
    """Everything that training needs. Can be sent to another process.

    Attributes:
        task: a Lightning module whose `network` is trained.
        monitor: logged score of checkpoint selection, higher is better.
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
        """Name of the experiment, from the folder `{name}/checkpoints/{fingerprint}`."""
        return self.checkpoints.folder.parents[1].name


@dataclass(frozen=True)
class Fitted:
    """Result of training.

    Attributes:
        weights: of the selected epoch, on the CPU.
        log: a row for each epoch: losses, validation scores, learning rate, seconds.
        kept: the selected epoch's row of the log.
        snapshots: the task's snapshot of each epoch, for figures.
    """

    weights: dict[str, Tensor]
    log: pd.DataFrame
    kept: dict[str, float]
    snapshots: list[dict[str, Tensor]]


def fit(job: Job) -> Fitted:
    """Train `job.task.network` and return the weights of the selected epoch.

    Training resumes from the last checkpoint, with the weights of an uninterrupted run. Finished training isn't
    repeated.

    Raises:
        ValueError: if a loss is not finite, with the batch, or if memory runs out; the last good checkpoint stays. If a
            batch has fewer images than there are processes.
    """
    processes = job.engine.devices * job.engine.nodes
    if job.recipe.batch_size < processes:
        raise ValueError(
            f"a batch of {job.recipe.batch_size} can't be shared by {processes} processes; set batch_size "
            "higher or training.devices lower"
        )
    device = choose_device(job.engine)
    newest = job.checkpoints.newest()
    if newest and is_finished(newest[1]["log"], job):
        words = (
            "%s: trained already with these settings on these data; taken from %s (delete the folder to train again)"
        )
        logger.info(words, job.name, job.checkpoints.folder)
    else:
        parameters = sum(parameter.numel() for parameter in job.task.network.parameters())
        logger.info("%s: training %s parameters on %s", job.name, f"{parameters:,}", device)
        _launch(job, newest)
        release_freed_memory()
        # Read back, because the weights may have been trained in other processes.
        newest = job.checkpoints.newest()
    assert newest is not None
    return read_fitted(newest[1], job)


def _launch(job: Job, newest: tuple[Path, dict[str, Any]] | None) -> None:
    """Train in as many processes as are asked for, from the newest checkpoint on."""
    resume = None
    if newest:
        path, state = newest
        resume = (path, len(state["log"]))
        logger.info("%s: going on after epoch %d, from %s", job.name, len(state["log"]), path)
    try:
        train_rank = partial(train, job, resume)
        launch(train_rank, job.checkpoints.folder.name, job.engine)
    except (KeyboardInterrupt, SystemExit) as interruption:
        # Lightning turns the first into the second, with a code.
        if getattr(interruption, "code", 1):
            logger.warning("interrupted; the same command goes on after the last epoch that was finished")
        raise


def read_fitted(state: dict[str, Any], job: Job) -> Fitted:
    """The result of training from its last checkpoint."""
    log = pd.DataFrame(state["log"])
    if job.recipe.checkpoint == "best":
        state_dict = state["best_weights"]
        epoch = log[job.monitor].idxmax()
    else:
        state_dict = state["state_dict"]
        epoch = log.index[-1]
    # The task has more weights than its network, such as heads for deep supervision.
    prefix = "network."
    weights = {}
    for name, value in state_dict.items():
        if name.startswith(prefix):
            weights[name.removeprefix(prefix)] = value.contiguous()
    kept = log.loc[epoch].to_dict()
    return Fitted(weights, log, kept, state["snapshots"])


def is_finished(log: list[dict[str, float]], job: Job) -> bool:
    """Whether all epochs are done, or early stopping applies (with `checkpoint: best` only)."""
    scores = [row[job.monitor] for row in log]
    # Of equal scores the first counts.
    best = scores.index(max(scores))
    without_gain = len(scores) - 1 - best
    stops_early = job.recipe.checkpoint == "best" and without_gain >= job.recipe.patience
    return stops_early or len(scores) >= job.recipe.epochs


def train(job: Job, resume: tuple[Path, int] | None, rank: int) -> None:
    """Train in this process, one of `devices` times `nodes`; the last checkpoint holds the result.

    Args:
        resume: path of a checkpoint, and the number of epochs in it.
    Raises: ValueError: if memory runs out.
    """
    device = choose_device(job.engine)
    try:
        _train(job, device, resume, rank)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(_explain_memory(job, device)) from error


def _explain_memory(job: Job, device: Device) -> str:
    resident = (job.train.size + job.validation.size) / 1e9
    return (
        f"{job.name}: memory ran out on {device.with_memory()} with batch_size {job.recipe.batch_size} and "
        f"training.resident_gb {job.engine.resident_gb:g} (the slices take {resident:.1f} GB);\n"
        "set the recipe's batch_size lower, or training.resident_gb to 0 to stream the slices. "
        "The last good checkpoint is kept"
    )


def _train(job: Job, device: Device, resume: tuple[Path, int] | None, rank: int) -> None:
    engine, recipe, task = job.engine, job.recipe, job.task
    ranks = engine.devices * engine.nodes
    train_order = BatchSampler(job.train, recipe.batch_size, engine.seed, recipe.epoch_steps, rank, ranks)
    # At least one slice for each process.
    validation_order = BatchSampler(job.validation, max(32, ranks), rank=rank, ranks=ranks)
    here = device.of(rank % engine.devices)
    workers = count_workers(engine.loader_workers, engine.devices)
    train_loader = load(job.train, train_order, here, engine.resident_gb, workers)
    validation_loader = load(job.validation, validation_order, here, engine.resident_gb, workers)
    checkpoint, done = resume or (None, 0)
    # Lightning makes the first iterator before it sets the epoch.
    train_order.set_epoch(done)
    # Lightning sets INFO when it is imported.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # A store is read in whole batches, so few workers are enough.
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
        # torch 2.13 warns of what Lightning 2.6 calls.
        warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
        # torch's compiler, to torch.
        warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated")
        # Logged values are summed over processes already.
        warnings.filterwarnings("ignore", "It is recommended to use `self.log")
        trainer = _trainer(job, device, rank)
        device.place(task, rank % engine.devices)
        if engine.compile:
            task.compile_network()
        # `weights_only`: a checkpoint can't run code when it is loaded.
        trainer.fit(task, train_loader, validation_loader, ckpt_path=checkpoint, weights_only=True)
    # The trainer has the loaders, and they have the slices.
    task.trainer = None


def _trainer(job: Job, device: Device, rank: int) -> lightning.Trainer:
    engine, recipe = job.engine, job.recipe
    many = engine.devices * engine.nodes > 1
    callbacks: list[Callback] = [
        SeedEachBatch(engine.seed),
        FiniteLoss(job.train, 1 if device.accelerator == "cpu" else READ_EVERY),
        CheckpointAndLog(job),
    ]
    if recipe.ema_decay:
        # First, so that checkpoints hold the averaged weights.
        callbacks.insert(0, AverageWeights(recipe.ema_decay))
    return lightning.Trainer(
        accelerator=device.accelerator,
        devices=engine.devices,
        num_nodes=engine.nodes,
        strategy="ddp" if many else "auto",
        plugins=[TorchElasticEnvironment() if many else LightningEnvironment()],
        # `BatchSampler` divides batches itself.
        use_distributed_sampler=False,
        sync_batchnorm=many and device.accelerator == "cuda",
        precision=device.precision,
        max_epochs=recipe.epochs,
        callbacks=callbacks,
        enable_progress_bar=sys.stderr.isatty() if many else progress_enabled(),
        logger=(tracker(job) if rank == 0 else None) or False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def tracker(job: Job) -> MLFlowLogger | None:
    """Logger of an MLflow run for each folder of checkpoints; None without tracking."""
    if not job.engine.mlflow:
        return None
    if find_spec("mlflow") is None:
        raise ImportError("training.mlflow needs MLflow: pip install 'brain-tumor-mri[mlflow]'")
    mark = job.checkpoints.folder.name
    note = job.checkpoints.folder / "mlflow_run"
    # A resumed training goes on in its run.
    known = note.read_text(encoding="utf-8") if note.is_file() else None
    tags = {"experiment": job.name, "fingerprint": mark}
    made = MLFlowLogger(
        experiment_name="brain-tumour-mri",
        run_name=job.name,
        tracking_uri=job.engine.mlflow,
        tags=tags,
        run_id=known,
    )
    if not known and made.run_id:
        engine = {"seed": job.engine.seed, "precision": job.engine.precision}
        made.log_hyperparams(job.recipe.model_dump() | engine)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(made.run_id, encoding="utf-8")
    return made


class AverageWeights(WeightAveraging):
    """Exponential moving average of the weights; validation and checkpoints use it."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def setup(self, trainer: lightning.Trainer, task: lightning.LightningModule, stage: str) -> None:
        """Copy the network, on its device."""
        # In place of Lightning's own average, which reads its counter from the device in every step.
        self._average_model = MovingAverage(task, self.decay)


class MovingAverage(AveragedModel):
    """A copy of a network with averaged weights; the decay rises from 0.1 to `decay` in the first steps."""

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        # Without a device the counter of updates is on the host.
        super().__init__(network, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the averages with the weights of one more step."""
        steps = int(self.n_averaged)
        self.n_averaged += 1
        # The first weights are random, and a plain decay would keep them for many steps.
        rising = (1 + steps) / (10 + steps)
        weight = 1 - min(self.decay, rising) if steps else 1.0
        averaged, current = [], []
        for average, value in zip(_tensors(self.module), _tensors(model), strict=True):
            if average.is_floating_point():
                averaged.append(average)
                current.append(value)
            else:
                # Counters of BatchNorm.
                average.copy_(value)
        # All at once: on a GPU in a few kernels.
        torch._foreach_lerp_(averaged, current, weight)


def _tensors(module: nn.Module) -> Iterable[Tensor]:
    return chain(module.parameters(), module.buffers())


class SeedEachBatch(Callback):
    """Seed dropout by seed, epoch, batch and process, so that it doesn't depend on what ran before."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Seed the batch."""
        # A loader draws a seed of its own from the same generator, at times that differ after a resume.
        key = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        # Python's hash of whole numbers is the same in every process, unlike that of texts.
        torch.manual_seed(hash(key))


class FiniteLoss(Callback):
    """Stop at a loss that is not finite, before it reaches a checkpoint.

    Args:
        every: batches between two looks at their losses; the last look is before validation.
    """

    def __init__(self, rows: Rows, every: int) -> None:
        self.rows, self.every = rows, every
        self.unread: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss on the device; look at it with those of other batches."""
        self.unread.append((outputs["loss"].detach(), batch["row"]))
        if len(self.unread) == self.every:
            self._read(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Look at the losses of the last batches of the epoch."""
        self._read(trainer)

    def _read(self, trainer: lightning.Trainer) -> None:
        losses = [loss for loss, _ in self.unread]
        batches = [rows for _, rows in self.unread]
        self.unread.clear()
        values = torch.stack(losses).tolist() if losses else []
        for loss, rows in zip(values, batches, strict=True):
            # Of several the first one: it ruined the weights for all after it.
            if not isfinite(loss):
                raise ValueError(self._explain(loss, rows, trainer.current_epoch + 1))

    def _explain(self, loss: float, rows: Tensor, epoch: int) -> str:
        table = self.rows.store.rows.iloc[rows.cpu().numpy()]
        names = table["file"].tolist()
        if "slice" in table:
            names = [f"{row.file} (slice {row.slice})" for row in table.itertuples()]
        return (
            f"the loss is {loss} in epoch {epoch} on the batch of {', '.join(names)}; "
            "if these files are sound, lower the recipe's learning_rate or set its gradient_clip to 1. The "
            "last good checkpoint is kept"
        )


def has_finite_weights(module: nn.Module) -> bool:
    """Whether all weights and buffers are finite, read from the device at once."""
    checks = [value.isfinite().all() for value in _tensors(module) if value.is_floating_point()]
    return bool(torch.stack(checks).all())


class CheckpointAndLog(Checkpoint):
    """After each epoch: a row of the log, a checkpoint with the log and the best weights so far, early stopping."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rows: list[dict[str, float]] = []
        self.best_weights: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Start the clock."""
        self.start = perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Log the epoch, validation included, save a checkpoint, and stop when training is finished."""
        scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self._require_finite(scores["validation_loss"], task)
        row = {"epoch": len(self.rows) + 1} | scores
        row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        row["seconds"] = perf_counter() - self.start
        self.rows.append(row)
        self._save(trainer)
        trainer.should_stop = is_finished(self.rows, self.job)
        if trainer.is_global_zero:
            left = "" if trainer.should_stop else f", at most about {format_time(self._seconds_left())} left"
            self._report(row, left)

    def _require_finite(self, validation_loss: float, task: lightning.LightningModule) -> None:
        """Refuse an epoch whose last update ruined the weights: its losses were taken before it."""
        # Weights too, because validation uses their average and no heads of deep supervision.
        if not isfinite(validation_loss):
            ruined = f"the validation loss is {validation_loss}"
        elif not has_finite_weights(task):
            ruined = "weights are not finite"
        else:
            return
        raise ValueError(
            f"{ruined} in epoch {len(self.rows) + 1}, after updates that looked sound: "
            "lower the recipe's learning_rate or set its gradient_clip to 1. The last good checkpoint is kept"
        )

    def _report(self, row: dict[str, float], left: str) -> None:
        name, epochs = self.job.name, self.job.recipe.epochs
        monitor = self.job.monitor
        scores = f"loss {row['train_loss']:.4f}, {monitor} {row[monitor]:.4f}, {row['seconds']:.1f} s"
        logger.info("%s: epoch %d of at most %d, %s%s", name, row["epoch"], epochs, scores, left)

    def _seconds_left(self) -> float:
        """At the pace of the last epochs: the first one also starts the device."""
        recent = self.rows[1:][-5:] or self.rows
        pace = fmean(row["seconds"] for row in recent)
        return pace * (self.job.recipe.epochs - len(self.rows))

    def _save(self, trainer: lightning.Trainer) -> None:
        checkpoints = self.job.checkpoints
        # A draft first, so that a run that is killed here leaves no broken checkpoint.
        draft = checkpoints.folder / ".draft"
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            checkpoints.keep(draft, len(self.rows))
            pd.DataFrame(self.rows).to_csv(checkpoints.folder / "training_log.csv", index=False)

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Add the log, the best weights and the snapshots to the checkpoint."""
        # Averaged weights are in `state_dict` by now.
        *before, last = [row[self.job.monitor] for row in self.rows]
        if last > max(before, default=float("-inf")):
            weights = checkpoint["state_dict"].items()
            # Copies: the next steps change the weights in place.
            self.best_weights = {name: value.detach().cpu().clone() for name, value in weights}
        checkpoint |= {
            "log": self.rows,
            "best_weights": self.best_weights,
            "snapshots": self.job.task.snapshots,
        }

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Restore the log, the best weights and the snapshots."""
        self.rows = list(checkpoint["log"])
        self.best_weights = checkpoint["best_weights"]
        self.job.task.snapshots = list(checkpoint["snapshots"])
