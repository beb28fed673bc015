"""Whether training on a device computes what it should: against fp64, twice, after a kill, streamed, without memory."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_cases import Case
from torch import Tensor, nn

from brain_tumor.data.common.store import Store
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.device import choose_device
from brain_tumor.training.fit import Fitted, Job, fit
from brain_tumor.training.settings import EngineSettings

STEPS, EPOCHS = 4, 2
BOUNDS = {"fp32": 1e-4, "bf16": 0.03}
"""Of a gradient's distance from that in fp64, as a share of its length."""
SPARE = 1.5e9
"""Bytes that a batch which is too large is left on a GPU."""


def compare_with_fp64(case: Case, store: Store, engine: EngineSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Errors of loss and gradients of one step, in fp32 and in the precision of the settings.

    With the running statistics of BatchNorm: with those of the batch, rounding of channels that are nearly constant
    grows, and gradients of fresh networks are off by up to 2 % in fp32 and half in bf16, also on CPUs. That error is
    in the table too. The loss is summed in fp32 in all of them; network and gradients are in fp64 on the CPU in one.
    """
    numbers = np.arange(case.batch)
    image, truth = case.to_pair(case.rows(store, numbers).read(numbers))
    network = case.build()
    exact = {}
    for training in (False, True):
        exact[training] = _loss_and_gradient(deepcopy(network).double().train(training), case, image.double(), truth)
    for precision in dict.fromkeys(["fp32", "bf16" if choose_device(engine).precision == "bf16-mixed" else "fp32"]):
        device = choose_device(engine.model_copy(update={"precision": precision}))
        placed = device.place(deepcopy(network))
        errors = []
        for training, (exact_loss, gradient) in exact.items():
            placed.train(training)
            with _without_tf32(), device.autocast():
                loss, found = _loss_and_gradient(placed, case, device.place_batch(image), truth.to(device.of(0)))
            errors.append((abs(loss / exact_loss - 1), ((found - gradient).norm() / gradient.norm()).item()))
        (loss_error, error), (_, in_training) = errors
        verdict = "ok" if error < BOUNDS[precision] else "FAILED"
        figures = {"loss off by": loss_error, "gradient off by": error, "in training": in_training}
        yield f"{case.network} {precision}", figures | {"verdict": verdict}


def _loss_and_gradient(network: nn.Module, case: Case, image: Tensor, truth: Tensor) -> tuple[float, Tensor]:
    loss = case.loss(network(image), truth)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return loss.item(), torch.cat([value.double().flatten().cpu() for value in gradients])


@contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def make_job(case: Case, store: Store, engine: EngineSettings, folder: Path, mixin: type | None = None) -> Job:
    """A short training of the case."""
    recipe = case.recipe(epochs=EPOCHS, patience=EPOCHS, epoch_steps=STEPS, checkpoint="last")
    rows = case.rows(store, np.arange(len(store.rows)))
    task = case.make_task(recipe, mixin)
    return Job(task, rows, rows, case.monitor, recipe, engine, Checkpoints(folder / "benchmark/checkpoints/noise"))


def compare_trainings(
    case: Case, store: Store, engine: EngineSettings, folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Weights of the same training again, streamed, and resumed after a kill, against those of the first."""
    first = fit(make_job(case, store, engine, folder / "first"))
    again = fit(make_job(case, store, engine, folder / "again"))
    yield "the same seed twice", _compare(first, again)
    streamed = engine.model_copy(update={"resident_gb": 0.0})
    yield "streamed, not resident", _compare(first, fit(make_job(case, store, streamed, folder / "streamed")))
    process = get_context("spawn").Process(target=train_and_die, args=(case, store, engine, folder / "killed"))
    process.start()
    process.join()
    job = make_job(case, store, engine, folder / "killed")
    left = [path.name for path in job.checkpoints.folder.glob("*.ckpt")]
    if process.exitcode != -signal.SIGKILL or left != ["epoch_00001.ckpt"]:
        yield "resumed after a kill", {"verdict": f"FAILED: exit {process.exitcode}, checkpoints {left}"}
    else:
        yield "resumed after a kill", _compare(first, fit(job))


class Dies:
    """Mixin that kills its process in the second epoch."""

    current_epoch: int

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """As the system does when memory runs out, or a scheduler."""
        if self.current_epoch == 1 and batch_idx == STEPS // 2:
            os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(case: Case, store: Store, engine: EngineSettings, folder: Path) -> None:
    """In a process of its own."""
    fit(make_job(case, store, engine, folder, Dies))


def _compare(one: Fitted, other: Fitted) -> dict[str, Any]:
    pairs = [(value, other.weights[name]) for name, value in one.weights.items() if value.is_floating_point()]
    distance = sum(((a - b).double() ** 2).sum() for a, b in pairs) / sum((a.double() ** 2).sum() for a, _ in pairs)
    identical = all(torch.equal(a, b) for a, b in pairs)
    off = float(distance) ** 0.5
    verdict = "identical" if identical else "ok" if off < 0.05 else "FAILED"
    return {"weights off by": off, "verdict": verdict}


def run_out_of_memory(case: Case, store: Store, engine: EngineSettings, folder: Path) -> dict[str, Any]:
    """A batch that doesn't fit: the error must name what to lower, and the last checkpoint must stay.

    On a CPU torch's error is raised without the memory being used up.
    """
    short = case.recipe(epochs=1, patience=1, epoch_steps=STEPS)
    made = make_job(case, store, engine, folder / "memory")
    fit(Job(made.task, made.train, made.validation, made.monitor, short, engine, made.checkpoints))
    path, before = made.checkpoints.newest()
    larger = case.recipe(epochs=EPOCHS, patience=EPOCHS, epoch_steps=1).model_copy(update={"batch_size": 8192})
    device = choose_device(engine)
    if device.accelerator == "cpu":
        larger = larger.model_copy(update={"batch_size": case.batch})
    task = case.make_task(larger)
    if device.accelerator == "cpu":
        task.network.forward = _refuse
    try:
        with _little_memory(device.accelerator):
            fit(Job(task, made.train, made.validation, made.monitor, larger, engine, made.checkpoints))
        return {"verdict": "FAILED: no error"}
    except ValueError as error:
        words = str(error)
    named = all(word in words for word in ("batch_size", "training.resident_gb"))
    left = made.checkpoints.newest()
    stays = left is not None and left[0] == path and len(left[1]["log"]) == len(before["log"])
    return {"verdict": "ok" if named and stays else "FAILED", "error": words.replace("\n", " ")}


def _refuse(*_: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


@contextmanager
def _little_memory(accelerator: str) -> Iterator[None]:
    """A limit near what is used, so that a batch needn't fill a whole GPU."""
    if accelerator != "cuda":
        yield
        return
    total = torch.cuda.get_device_properties().total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + SPARE) / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
