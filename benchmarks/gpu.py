"""How fast and how right training is on a GPU: one command, a table, and the same table as CSV.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --minutes 8 --out gpu.csv
    # some parts only; or slices of your own, for segmentation
    python benchmarks/gpu.py --parts checks training --store data/05_model_input/segmentation/slices.h5

Without a GPU a line says so, and the same parts run small on the CPU, in about two minutes on one core.
No network, no download: the data are noise unless a store is given. Parts, in this order:

- ceilings: a large bf16 matrix product, a copy, the launch of an empty kernel. Shares below are of these.
- checks: loss and gradients of one step against fp64 on the CPU; the same seed twice; streamed against resident;
  resumed after a kill; the error of a batch that doesn't fit.
- training: slices a second of the project's loop (validation and checkpoints apart) against plain (NCHW, fp32,
  8 loader workers on a store, metrics read in each step), engineer (channels last, bf16, torch.compile, data on the
  device), MONAI's BasicUNet of about as many parameters trained the engineer's way, and steps (the project's without
  its loop: the difference is overhead). All in one process, by turns, medians, by CUDA's events. Then the shares of
  both ceilings, the time without a kernel, what holds the rest, peak memory, and how often the host waited.
- augmentation: a step with the augmentation of `--env full` against one with flips.
- prediction: 155 slices of a patient, from arrays to labels, mirror image included.

A part that time doesn't suffice for is named at the end. Each row is written as soon as it is measured.

Packages that it imports, with those that they need themselves: torch, numpy, joblib, PyYAML, h5py, hdf5plugin, pandas,
pydantic, jaxtyping, scipy, tqdm, lightning (lightning-utilities, torchmetrics, fsspec, packaging).
monai only for BasicUNet; without it that column is empty.
"""

import argparse
import csv
import logging
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import yaml
from gpu_cases import Case, Stores, full_cases, small_cases
from gpu_checks import compare_trainings, compare_with_fp64, run_out_of_memory
from gpu_speed import Ceilings, measure_augmentation, measure_ceilings, measure_prediction, measure_ways, shares
from gpu_ways import Setting

from brain_tumor.data.common.store import Store
from brain_tumor.networks import networks_of
from brain_tumor.training.device import choose_device
from brain_tumor.training.settings import EngineSettings

Rows = Iterator[tuple[str, dict[str, Any]]]
"""Names of cases, and their figures by name."""

PARTS = ("ceilings", "checks", "training", "augmentation", "prediction")
NO_GPU = "torch finds no CUDA device: the parts run small on the CPU, and the figures say nothing of a GPU"


class Table:
    """Rows of figures, printed and written to a CSV file as they come: a line for each figure."""

    def __init__(self, path: Path, device: str) -> None:
        self.path, self.device = path, device
        self.heading: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(["device", "part", "case", "figure", "value"])

    def add(self, part: str, case: str, figures: dict[str, Any]) -> None:
        """A row of one case; a new heading if its figures are others than those of the row before."""
        texts = {name: show(value) for name, value in figures.items()}
        heading = [part, *texts]
        if heading != self.heading:
            self.heading = heading
            print(f"\n{part:40}" + "".join(f"{name:>{width_of(name)}}" for name in texts))
        print(f"{case:40}" + "".join(f"{text:>{width_of(name)}}" for name, text in texts.items()), flush=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.device, part, case, name, value] for name, value in figures.items())


def show(value: Any) -> str:
    """A figure with three digits, a text as it is."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def width_of(name: str) -> int:
    """Columns of a figure; texts are wider than numbers."""
    texts = {"busiest": 48, "held by": 14, "verdict": 12, "error": 12, "waits": 8}
    return texts.get(name, max(10, len(name) + 2))


class Benchmark:
    """The parts, and the time that is left for them.

    Args:
        folder: for stores of noise and checkpoints.
    """

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments, self.folder = arguments, folder
        self.engine = EngineSettings(device="cuda" if arguments.cuda else "cpu", resident_gb=20)
        self.device = choose_device(self.engine)
        self.small = arguments.small
        self.steps, self.rounds = (2, 1) if self.small else (24, 3)
        self.stores = Stores(folder, 8 if self.small else 512, arguments.store)
        self.table = Table(arguments.out, str(self.device))
        self.end = perf_counter() + 60 * arguments.minutes
        self.longest: dict[str, float] = {}
        self.left_out: list[str] = []
        self.failed = False

    def run(self) -> None:
        """All parts that are asked for."""
        parts = {
            "ceilings": self.show_ceilings,
            "checks": self.check,
            "training": self.train,
            "augmentation": self.augment,
            "prediction": self.predict,
        }
        for name in self.arguments.parts:
            parts[name]()
        if self.left_out:
            print(f"\nnot measured, for lack of time: {'; '.join(self.left_out)}")
        print(f"\n{self.device}; every figure is in {self.arguments.out}")

    def try_to(self, part: str, case: str, measure: Callable[[], Rows]) -> None:
        """Add what is measured; what fails is a row too, and the others go on."""
        if perf_counter() + self.longest.get(part, 0) > self.end:
            self.left_out.append(f"{part} {case}")
            return
        start = perf_counter()
        try:
            for name, figures in measure():
                self.failed |= "FAILED" in str(figures.get("verdict"))
                self.table.add(part, name, figures)
        except Exception as error:
            self.failed = True
            traceback.print_exc()
            words = str(error).split("\n")[0]
            self.table.add(part, case, {"verdict": f"FAILED: {type(error).__name__}: {words}"})
        if self.arguments.cuda:
            torch.cuda.empty_cache()
        self.longest[part] = max(self.longest.get(part, 0), perf_counter() - start)

    @cached_property
    def ceilings(self) -> Ceilings:
        """What the device reaches, measured once."""
        side, size = (256, 2**22) if self.small else (8192, 2**30)
        return measure_ceilings(self.device.of(0), side, size)

    def show_ceilings(self) -> None:
        """The matrix product, the copy, the launch."""

        def measure() -> Rows:
            found = self.ceilings
            figures = {"TFLOP/s": found.matrix / 1e12, "GB/s": found.copy / 1e9, "launch us": found.launch * 1e6}
            yield "matrix product, copy, launch", figures

        self.try_to("ceilings", "all", measure)

    def check(self) -> None:
        """Whether a step, a training and an error are as they should be."""
        names = networks_of("segmentation")
        sizes = {"n_filters": 4 if self.small else 16}
        for name in names:
            case = Case(name, 32, 4, sizes)
            self.try_to(
                "step against fp64", name, partial(compare_with_fp64, case, self.stores.noise(case), self.engine)
            )
        case = Case(names[0], 32 if self.small else 64, 4, sizes)
        given = (case, self.stores.noise(case), self.engine, self.folder)
        self.try_to("trainings", case.name, partial(compare_trainings, *given))
        self.try_to("out of memory", case.name, lambda: iter([(case.name, run_out_of_memory(*given))]))

    def cases(self) -> list[Case]:
        """What is trained; of a store that is given in the size of its slices."""
        cases = list(small_cases() if self.small else full_cases())
        if self.arguments.store is None:
            return cases
        side = Store(self.arguments.store).shapes["image"][-1]
        largest = max(case.pixels for case in cases if case.filters)
        segmentation = [replace(case, pixels=side) for case in cases if case.filters and case.pixels == largest]
        return segmentation + [case for case in cases if not case.filters]

    def train(self) -> None:
        """Speed of all cases, until time is up."""
        for case in self.cases():
            self.try_to("training", case.name, partial(self.train_one, case))

    def train_one(self, case: Case) -> Rows:
        """One case in all ways."""
        setting = Setting(case, self.stores.of(case), self.engine, self.steps)
        found = measure_ways(
            setting,
            self.rounds,
            compiled=self.arguments.cuda,
            # Once for each size: it is as large as the first network.
            with_basic_unet=case.network == "classic_unet" and find_spec("monai") is not None,
        )
        yield case.name, found | shares(setting, found, self.ceilings)

    def augment(self) -> None:
        """What the augmentation of the full-size recipe costs."""
        conf = Path(__file__).parents[1] / "conf/full/parameters_segmentation.yml"
        settings = yaml.safe_load(conf.read_text(encoding="utf-8"))["segmentation"]["recipe"]["augmentation"]
        case = self.cases()[0]
        setting = Setting(case, self.stores.of(case), self.engine, self.steps)
        measure = partial(measure_augmentation, setting, self.rounds, settings)
        self.try_to("augmentation", case.name, lambda: iter([(case.name, measure())]))

    def predict(self) -> None:
        """Seconds of a patient."""
        depth = 4 if self.small else 155
        for case in self.cases()[: len(networks_of("segmentation"))]:
            measure = partial(measure_prediction, case, self.device, depth, self.rounds)
            self.try_to("prediction", case.name, lambda case=case, measure=measure: iter([(case.name, measure())]))


def read_arguments() -> argparse.Namespace:
    """The arguments, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="no case is begun that would take longer")
    parser.add_argument("--out", type=Path, default=Path("gpu.csv"))
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--store", type=Path, help="prepared slices to train segmentation on; noise without")
    parser.add_argument("--small", action="store_true", help="the small cases on a GPU too")
    arguments = parser.parse_args()
    if arguments.store and not arguments.store.is_file():
        parser.error(f"--store: there is no file {arguments.store}; prepared slices end in .h5")
    return arguments


def main() -> int:
    """Status 1 if a check failed or a part had an error."""
    arguments = read_arguments()
    arguments.cuda = torch.cuda.is_available()
    arguments.small |= not arguments.cuda
    if not arguments.cuda:
        print(NO_GPU)
    logging.disable()
    # Lightning's, on loaders and on its own use of torch.
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(arguments, Path(folder))
        benchmark.run()
    return int(benchmark.failed)


if __name__ == "__main__":
    sys.exit(main())
