"""How fast networks are trained, against the same network trained the plain way in the same run.

    # slices a second, validation included; overhead of the loop; share of the machine's peak
    python benchmarks/training.py speed FOLDER
    # bf16 against fp32: validation Dice after the same epochs
    python benchmarks/training.py accuracy FOLDER
    # peak memory when slices are streamed, by their number
    python benchmarks/training.py memory FOLDER

FOLDER holds HDF5 slices in the published layout. The plain way: NCHW, fp32, AdamW, batches of 32 slices of 128 x 128
from a DataLoader without workers, seven metrics on each batch; once reading published files as the reference does, once
reading our store. Each way trains in a process of its own, because ours changes how memory is allocated; it takes
batches of 16, and of each slice the window that holds every brain. Rounds of one epoch alternate between them, medians
are printed.
"""

import argparse
import dataclasses
import logging
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import yaml
from plain import seven_metrics
from segmentation_data import BRATS, read_plainly, write_slices
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.data.scans.find_scans import find_scans
from brain_tumor.networks import build, networks_of
from brain_tumor.training.batches import Rows
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.fit import Job, fit
from brain_tumor.training.segmentation.labels import to_channels
from brain_tumor.training.segmentation.losses import DiceBCELoss
from brain_tumor.training.segmentation.task import MONITOR, SegmentationTask
from brain_tumor.training.settings import EngineSettings, ExperimentSettings, SegmentationRecipe

BATCH, OUR_BATCH, FILTERS, TRAIN, VALIDATION = 32, 16, 16, 96, 16
# our epoch holds as many times the slices: 24 batches, as the recipe has; the plain way costs nothing for an epoch
LONGER = 4
TARGETS = {name: list(labels) for name, labels in BRATS.targets.items()}


def make_job(
    name: str,
    store: Store,
    folder: Path,
    recipe: SegmentationRecipe,
    engine: EngineSettings,
    train: int,
    validation: int,
    filters: int = FILTERS,
) -> Job:
    """Our way: the project's own loop."""
    torch.manual_seed(engine.seed)
    task = SegmentationTask(build(name, n_filters=filters), TARGETS, 3, recipe, engine.seed)
    return Job(
        task,
        Rows(store, np.arange(train)),
        Rows(store, np.arange(train, train + validation)),
        MONITOR,
        recipe,
        engine,
        Checkpoints(folder),
    )


class Timed(SegmentationTask):
    """Waits for its turn at each epoch, and adds up what forward, backward and step take."""

    turn: Connection
    busy = 0.0

    def on_train_epoch_start(self) -> None:
        """Say how long was worked, wait."""
        self.turn.send(self.busy)
        self.turn.recv()
        self.busy = 0.0

    def _count(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            result = function(*args, **kwargs)
            self.busy += perf_counter() - start
            return result

        return call

    def count_work(self) -> None:
        """Watch what is not overhead."""
        self.network.forward = self._count(self.network.forward)
        self.loss.forward, self.loss.sums = self._count(self.loss.forward), self._count(self.loss.sums)

    def backward(self, loss: torch.Tensor) -> None:
        """Lightning's, watched."""
        self._count(loss.backward)()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Lightning's, watched."""
        optimizer_closure()
        self._count(optimizer.step)()


def train_ours(turn: Connection, name: str, _: Path, store: Store, rounds: int) -> None:
    """Epochs of the project's loop, one at each turn."""
    logging.disable()
    recipe = SegmentationRecipe(epochs=rounds, patience=rounds, batch_size=OUR_BATCH, epoch_steps=1)
    with tempfile.TemporaryDirectory() as checkpoints:
        job = make_job(name, store, Path(checkpoints), recipe, EngineSettings(), LONGER * TRAIN, LONGER * VALIDATION)
        task = Timed(job.task.network, TARGETS, 3, recipe, 0)
        task.turn = turn
        task.count_work()
        fit(dataclasses.replace(job, task=task))
    turn.send(task.busy)


class PlainSlices(Dataset):
    """One slice at a time, as fp32: from published files, or from our store."""

    def __init__(self, files: list[Path], store: Store | None, count: int) -> None:
        self.files, self.store, self.count = files, store, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.store is None:
            image, mask = read_plainly(self.files[k % len(self.files)])
            return torch.from_numpy(image), torch.from_numpy(mask).float()
        image, labels = self.store.read(np.array([k]), "image", "labels")
        return torch.from_numpy(image[0]).float(), to_channels(torch.from_numpy(labels), 3)[0]


def train_plainly(turn: Connection, name: str, folder: Path, store: Store | None, rounds: int) -> None:
    """Epochs of the plain loop, one at each turn."""
    files = [file for scan in find_scans(folder, BRATS) for file in scan.files]
    torch.manual_seed(0)
    network, loss_of = build(name, n_filters=FILTERS), DiceBCELoss(0.5)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    train = DataLoader(PlainSlices(files, store, TRAIN), BATCH, shuffle=True)
    validation = DataLoader(PlainSlices(files, store, VALIDATION), BATCH)
    turn.send(0.0)
    for _ in range(rounds):
        turn.recv()
        network.train()
        for image, truth in train:
            logits = network(image)
            loss = loss_of(logits, truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            [value.mean().item() for value in seven_metrics(logits, truth)]
        network.eval()
        with torch.no_grad():
            for image, truth in validation:
                [value.mean().item() for value in seven_metrics(network(image), truth)]
        turn.send(0.0)


def measure_speed(folder: Path, names: list[str], rounds: int) -> None:
    """Slices a second of each way, in alternation."""
    context = get_context("spawn")
    peak = matrix_peak()
    print(
        f"peak of a bf16 matrix product on this machine: {peak / 1e12:.2f} TFLOP/s; {torch.get_num_threads()} threads"
    )
    print(
        f"{'network':16}{'plain, files':>14}{'plain, store':>14}{'ours':>8}{'against files':>15}"
        f"{'against store':>15}{'overhead':>10}{'of peak':>9}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        store = write_slices(folder, Path(scratch) / "slices.h5", LONGER * (TRAIN + VALIDATION))
        window = find_brain_crop(store)
        print("ours sees {} x {} pixels of a slice, which hold every brain".format(*window.shape))
        for name in names:
            ways = {"files": (train_plainly, None), "store": (train_plainly, store), "ours": (train_ours, store)}
            pipes, seconds, busy = {}, {way: [] for way in ways}, []
            for way, (function, source) in ways.items():
                os.environ["THP_MEM_ALLOC_ENABLE"] = "1" if way == "ours" else "0"  # huge pages are part of our way
                pipes[way], other = context.Pipe()
                context.Process(target=function, args=(other, name, folder, source, rounds + 1), daemon=True).start()
            for pipe in pipes.values():
                pipe.recv()
            for number in range(rounds + 1):
                for way, pipe in pipes.items():
                    start = perf_counter()
                    pipe.send("go")
                    worked = pipe.recv()
                    took = perf_counter() - start
                    if number:  # the first epoch warms up
                        seconds[way].append(took)
                        busy += [worked / took] if way == "ours" else []
            medians = {way: statistics.median(values) for way, values in seconds.items()}
            rate = {
                way: (TRAIN + VALIDATION) * (LONGER if way == "ours" else 1) / value for way, value in medians.items()
            }
            share = LONGER * epoch_flops(name, window) / medians["ours"] / peak
            files, kept, ours = rate.values()
            print(f"{name:16}{files:14.1f}{kept:14.1f}{ours:8.1f}{ours / files:13.2f} x{ours / kept:13.2f} x", end="")
            print(f"{1 - statistics.median(busy):10.1%}{share:9.1%}", flush=True)


def epoch_flops(name: str, window: BoundingBox) -> float:
    """Floating-point operations of the epoch that is timed.

    A training step does a forward pass and twice that in the backward pass.
    """
    # With gradients: without them attention takes a way that is not counted.
    with FlopCounterMode(display=False) as counter:
        build(name, n_filters=FILTERS).eval()(torch.zeros(1, 4, *window.shape))
    return counter.get_total_flops() * (3 * TRAIN + VALIDATION)


def matrix_peak() -> float:
    """Operations a second of a large bf16 matrix product, the best of several."""
    a = torch.randn(4096, 4096, dtype=torch.bfloat16)
    times = []
    for _ in range(8):
        start = perf_counter()
        a @ a
        times.append(perf_counter() - start)
    return 2 * 4096**3 / min(times)


def measure_accuracy(folder: Path, names: list[str], epochs: int, seeds: int, filters: int) -> None:
    """Best validation Dice after the same epochs in bf16 and fp32, for each seed.

    The recipe of the sample, the last quarter of the slices validates.
    """
    logging.disable()
    settings = yaml.safe_load((Path(__file__).parents[1] / "conf/base/parameters_segmentation.yml").read_text())[
        "segmentation"
    ]
    with tempfile.TemporaryDirectory() as scratch:
        count = sum(len(scan.files) for scan in find_scans(folder, BRATS))
        store = write_slices(folder, Path(scratch) / "slices.h5", count)
        for name in names:
            recipe = ExperimentSettings(**settings[name]).adapt(SegmentationRecipe(**settings["recipe"]))
            recipe = recipe.model_copy(update={"epochs": epochs, "patience": epochs})
            best: dict[str, list[float]] = {"fp32": [], "bf16": []}
            for seed, precision in product(range(seeds), best):
                engine = EngineSettings(precision=precision, seed=seed)
                job = make_job(
                    name,
                    store,
                    Path(scratch) / f"{name}-{precision}-{seed}",
                    recipe,
                    engine,
                    count * 3 // 4,
                    count // 4,
                    filters,
                )
                best[precision].append(fit(job).log[MONITOR].max())
                print(f"{name:24} seed {seed} {precision} {best[precision][-1]:.4f}", flush=True)
            fp32, bf16 = (np.array(values) for values in best.values())
            spread = (
                (
                    f"; between seeds, fp32 spreads by {fp32.std(ddof=1):.4f}, the difference by "
                    f"{(bf16 - fp32).std(ddof=1):.4f}"
                )
                if seeds > 1
                else ""
            )
            print(
                (
                    f"{name:24} {seeds} seeds: fp32 {fp32.mean():.4f}, bf16 {bf16.mean():.4f}, difference "
                    f"{(bf16 - fp32).mean():+.4f}{spread}"
                ),
                flush=True,
            )


def measure_memory(folder: Path, counts: list[int]) -> None:
    """Peak memory of streamed training, each size in a process of its own."""
    for count in counts:
        subprocess.run([sys.executable, __file__, "stream", str(folder), "--count", str(count)], check=True)


def stream(folder: Path, count: int) -> None:
    """One streamed epoch of a narrow network over `count` slices; prints the peak of this process."""
    logging.disable()
    recipe = SegmentationRecipe(epochs=1, batch_size=BATCH, epoch_steps=1)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "slices.h5"
        subprocess.run(
            [sys.executable, __file__, "write", str(folder), "--count", str(count + VALIDATION), "--target", str(path)],
            check=True,
        )
        job = make_job(
            "classic_unet", Store(path), Path(scratch), recipe, EngineSettings(resident_gb=0), count, VALIDATION
        )
        fit(dataclasses.replace(job, task=SegmentationTask(build("classic_unet", n_filters=4), TARGETS, 3, recipe, 0)))
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
    print(f"{count:8,} slices streamed: peak {peak} MiB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "accuracy", "memory", "stream", "write"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=networks_of("segmentation"))
    parser.add_argument("--rounds", type=int, default=5, help="epochs timed of each way")
    parser.add_argument("--epochs", type=int, default=6, help="of the comparison of accuracy")
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison of accuracy")
    parser.add_argument("--filters", type=int, default=FILTERS, help="of the comparison of accuracy")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what == "speed":
        measure_speed(arguments.folder, arguments.networks, arguments.rounds)
    elif arguments.what == "accuracy":
        measure_accuracy(arguments.folder, arguments.networks, arguments.epochs, arguments.seeds, arguments.filters)
    elif arguments.what == "memory":
        measure_memory(arguments.folder, [500, 3000])
    elif arguments.what == "stream":
        stream(arguments.folder, arguments.count)
    else:
        write_slices(arguments.folder, arguments.target, arguments.count)
