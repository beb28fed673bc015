"""Ways to train one network, side by side in one process: the project's loop, its steps alone, and two others.

Each way is an object whose `run` trains some steps and gives the seconds that they took.
"""

import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import joblib
import numpy as np
import torch
from gpu_cases import Case
from plain import seven_metrics
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset

from brain_tumor.data.common.store import Store
from brain_tumor.training.batches import Batch, BatchSampler, InMemoryRows
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.classification import augmentation as image_augmentation
from brain_tumor.training.classification.normalisation import to_input
from brain_tumor.training.device import Device, choose_device
from brain_tumor.training.fit import Job, fit
from brain_tumor.training.segmentation import augmentation as slice_augmentation
from brain_tumor.training.segmentation.labels import to_channels
from brain_tumor.training.settings import EngineSettings

PLAIN_WORKERS = 8
LEARNING_RATE = 1e-4
ROWS = 512
"""Of a store that is given, so that all ways have them in memory."""


class Stopwatch:
    """Seconds on the device, by CUDA's events; on a CPU by the clock."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def start(self) -> None:
        """Start when the device has done all before."""
        if self.cuda:
            torch.cuda.synchronize()
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record()
        self.begin = perf_counter()

    def stop(self) -> float:
        """Seconds until the device has done all since."""
        if not self.cuda:
            return perf_counter() - self.begin
        end = torch.cuda.Event(enable_timing=True)
        end.record()
        torch.cuda.synchronize()
        return self.event.elapsed_time(end) / 1000


@dataclass(frozen=True)
class Setting:
    """Where and on what all ways are trained."""

    case: Case
    store: Store
    engine: EngineSettings
    steps: int

    @property
    def device(self) -> Device:
        """The project's choice of device and precision."""
        return choose_device(self.engine)

    @property
    def here(self) -> torch.device:
        """The torch device."""
        return self.device.of(0)

    @property
    def numbers(self) -> np.ndarray:
        """Rows of the store that are trained on, over and over."""
        return np.arange(min(ROWS, self.store.shapes["image"][0]))


class TurnsEnded(Exception):  # noqa: N818
    """No more epochs are asked for."""


class Timed:
    """Mixin of a task: waits for its turn at the start of each epoch, measures its training steps."""

    way: "Ours"

    def on_train_epoch_start(self) -> None:
        """Give the turn back, wait for the next, start the watch."""
        self.way.wait_for_turn()

    def on_validation_start(self) -> None:
        """Stop the watch: validation and the checkpoint are not in the figure."""
        self.way.end_of_steps()


class Ours:
    """The project's loop, `fit`, in a thread that trains while it has its turn.

    Args:
        epochs: that `run` may be called for.
        settings: of the recipe.
    """

    def __init__(self, setting: Setting, epochs: int, **settings: Any) -> None:
        self.watch = Stopwatch(setting.here)
        self.turn, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.error: BaseException | None = None
        self.ended = False
        self.counts_waits = False
        self.arguments = (setting, epochs, settings)
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()
        self._wait()

    def _train(self) -> None:
        setting, epochs, settings = self.arguments
        case = setting.case
        try:
            recipe = case.recipe(epochs=epochs, patience=epochs, epoch_steps=1, **settings)
            # The store's rows over and over, until an epoch has its steps.
            numbers = np.resize(setting.numbers, setting.steps * case.batch)
            rows, validation = case.rows(setting.store, numbers), case.rows(setting.store, setting.numbers[:2])
            task = case.make_task(recipe, Timed)
            task.way = self
            with tempfile.TemporaryDirectory() as folder:
                checkpoints = Checkpoints(Path(folder) / "benchmark/checkpoints/noise")
                fit(Job(task, rows, validation, case.monitor, recipe, setting.engine, checkpoints))
        except TurnsEnded:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self.done.release()

    def wait_for_turn(self) -> None:
        """In the thread, between two epochs."""
        self.done.release()
        self.turn.acquire()
        if self.ended:
            raise TurnsEnded
        if self.counts_waits:
            torch.cuda.set_sync_debug_mode("warn")
        self.watch.start()

    def end_of_steps(self) -> None:
        """In the thread, after the last step of an epoch."""
        if self.counts_waits:
            torch.cuda.set_sync_debug_mode("default")
        self.seconds = self.watch.stop()

    def _wait(self) -> None:
        self.done.acquire()
        if self.error:
            raise self.error

    def run(self) -> float:
        """Seconds of the training steps of an epoch."""
        self.turn.release()
        self._wait()
        return self.seconds

    def run_counting_waits(self) -> int:
        """How often the host waited for the device in an epoch's training steps."""
        self.counts_waits = True
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.run()
        self.counts_waits = False
        return sum("synchroniz" in str(warning.message) for warning in caught)

    def close(self) -> None:
        """End the thread."""
        if not self.ended:
            self.ended = True
            self.turn.release()
        self.thread.join(60)


class Steps:
    """Steps without a loop around them: the same augmentation, network, loss and optimiser as the project's.

    What the project's loop takes beyond them is its overhead.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, self.watch = setting, Stopwatch(setting.here)
        case, self.device = setting.case, setting.device
        self.task = case.make_task(case.recipe())
        self.device.place(self.task)
        self.optimiser = torch.optim.AdamW(self.task.parameters(), LEARNING_RATE, fused=True)
        numbers = np.resize(setting.numbers, setting.steps * case.batch)
        self.rows = InMemoryRows(case.rows(setting.store, numbers), setting.here)
        self.order = BatchSampler(case.rows(setting.store, numbers), case.batch, seed=0)
        self.epoch = 0

    def run(self) -> float:
        """Seconds of an epoch's steps."""
        self.task.train()
        self.watch.start()
        for number, chosen in enumerate(self.order):
            self.step(self.rows[chosen], number)
        self.epoch += 1
        return self.watch.stop()

    def run_profiled(self) -> profile:
        """The profile of an epoch's steps, here and not of `Ours`: torch's profiler belongs in the main thread."""
        activity = ProfilerActivity.CUDA if self.watch.cuda else ProfilerActivity.CPU
        with profile(activities=[activity]) as profiled:
            self.run()
        return profiled

    def step(self, batch: Batch, number: int = 0) -> Tensor:
        """One step; the loss stays on the device."""
        task, size = self.task, self.setting.case.batch
        batch = task.on_after_batch_transfer(batch, 0)
        with self.device.autocast():
            loss = self._loss_of_slices(batch, number) if "labels" in batch else self._loss_of_images(batch, number)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        assert len(batch["image"]) == size
        return loss.detach()

    def _loss_of_slices(self, batch: Batch, number: int) -> Tensor:
        task = self.task
        params = slice_augmentation.sample_augmentation(len(batch["image"]), 4, 0, self.epoch, number)
        with torch.autocast(self.setting.here.type, enabled=False):
            image, labels = slice_augmentation.augment(batch["image"], batch["labels"], params, task.augmentation)
        return task.loss(task.network(image), to_channels(labels, task.tissues))

    def _loss_of_images(self, batch: Batch, number: int) -> Tensor:
        task = self.task
        params = image_augmentation.sample_augmentation(len(batch["image"]), 0, self.epoch, number)
        with torch.autocast(self.setting.here.type, enabled=False):
            image = image_augmentation.augment(batch["image"], params, task.augmentation)
        logits = task.network(to_input(image, task.channels)).float()
        return torch.nn.functional.cross_entropy(logits, task.target(batch["label"]))

    def close(self) -> None:
        """Nothing is held but memory."""


class PlainRows(Dataset[tuple[Tensor, Tensor]]):
    """One row at a time from the store, as fp32."""

    def __init__(self, setting: Setting) -> None:
        self.case, self.store, self.numbers = setting.case, setting.store, setting.numbers
        self.length = setting.steps * setting.case.batch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        row = self.numbers[number % len(self.numbers)]
        batch = self.case.rows(self.store, self.numbers).read(np.array([row]))
        image, truth = self.case.to_pair(batch)
        return image[0], truth[0]


class Plain:
    """The plain way: NCHW, fp32, a DataLoader with 8 workers on the store, metrics read in each step."""

    def __init__(self, setting: Setting) -> None:
        self.case, self.here, self.watch = setting.case, setting.here, Stopwatch(setting.here)
        self.network = setting.case.build().to(self.here)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE)
        workers = min(PLAIN_WORKERS, joblib.cpu_count()) if self.here.type == "cuda" else 0
        self.loader = DataLoader(
            PlainRows(setting),
            setting.case.batch,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def run(self) -> float:
        """Seconds of an epoch's steps."""
        self.network.train()
        self.watch.start()
        for image, truth in self.loader:
            image, truth = image.to(self.here), truth.to(self.here)
            logits = self.network(image)
            loss = self.case.loss(logits, truth)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            [value.mean().item() for value in self._metrics(logits, truth)]
        return self.watch.stop()

    def _metrics(self, logits: Tensor, truth: Tensor) -> list[Tensor]:
        if self.case.task == "segmentation":
            return seven_metrics(logits, truth)
        return [(logits.argmax(1) == truth).float()]

    def close(self) -> None:
        """End the workers."""
        with suppress(AttributeError):
            self.loader._iterator._shutdown_workers()


class Engineer:
    """What a good engineer writes in an evening: channels last, bf16, `torch.compile`, all data on the device.

    Args:
        network: another one than the case's.
        compiled: whether to compile; on a CPU that takes minutes.
    """

    def __init__(self, setting: Setting, network: nn.Module | None = None, *, compiled: bool) -> None:
        self.case, self.here, self.watch = setting.case, setting.here, Stopwatch(setting.here)
        self.steps, self.device = setting.steps, setting.device
        self.network = (network or setting.case.build()).to(self.here, memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE, fused=True)
        self.forward = torch.compile(self.network) if compiled else self.network
        read = self.case.rows(setting.store, setting.numbers).read(setting.numbers)
        self.data = {name: array.to(self.here) for name, array in read.items()}

    def run(self) -> float:
        """Seconds of an epoch's steps."""
        self.network.train()
        self.watch.start()
        for chosen in self._order():
            image, truth = self.case.to_pair({name: array[chosen] for name, array in self.data.items()})
            image = image.contiguous(memory_format=torch.channels_last)
            with self.device.autocast():
                loss = self.case.loss(self.forward(image), truth)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        return self.watch.stop()

    def _order(self) -> Iterator[Tensor]:
        count = len(next(iter(self.data.values())))
        for _ in range(self.steps):
            yield torch.randint(count, (self.case.batch,), device=self.here)

    def close(self) -> None:
        """Nothing is held but memory."""
