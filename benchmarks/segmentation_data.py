"""How fast segmentation data is read, prepared, kept and fed, against a plain loop in the same run.

    python benchmarks/segmentation_data.py read FOLDER       # HDF5 slices: read and prepared
    python benchmarks/segmentation_data.py formats FOLDER    # what the store might be written in: size, speed, error
    python benchmarks/segmentation_data.py feed FOLDER       # batches for training

FOLDER holds HDF5 slices in the published layout. The plain loop does what the reference does: h5py, min-max of each
slice in float64, bilinear resize (torch, as fast as it goes). Rounds alternate between the candidates; medians are
printed.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import h5py
import hdf5plugin
import joblib
import numpy as np
import pandas as pd
import torch
import yaml
from torch.utils.data import DataLoader

from brain_tumor.data.common.store import Store, StoreContent, write_store
from brain_tumor.data.scans.brain_crop import locate_brain
from brain_tumor.data.scans.data_set import DataSet
from brain_tumor.data.scans.find_scans import find_scans, read_slices
from brain_tumor.data.scans.preparation import prepare_slice
from brain_tumor.data.scans.scan import Scan
from brain_tumor.training.batches import BatchSampler, Rows, load

SIZE = 128
BRATS = DataSet.model_validate(
    yaml.safe_load((Path(__file__).parents[1] / "conf/base/parameters_data_segmentation.yml").read_text())[
        "data_segmentation"
    ]["data_set"]
)


def read_plainly(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """One slice as the reference reads it."""
    with h5py.File(file) as content:
        image, mask = np.moveaxis(content["image"][()], -1, 0), np.moveaxis(content["mask"][()], -1, 0)
    low, high = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
    both = np.concatenate([(image - low) / (high - low + 1e-9), mask]).astype(np.float32)
    resized = torch.nn.functional.interpolate(torch.from_numpy(both)[None], size=(SIZE, SIZE), mode="bilinear")[
        0
    ].numpy()
    return resized[: len(image)], resized[len(image) :] > 0.5


def read_ours(scan: Scan) -> list[tuple[np.ndarray, np.ndarray]]:
    """All slices of a patient as the pipeline reads and prepares them."""
    return [prepare_slice(s.image, s.labels, SIZE) for s in read_slices(scan, BRATS)]


def benchmark_read(folder: Path, rounds: int) -> None:
    """Slices a second, one process and two."""
    torch.set_num_threads(1)
    scans = find_scans(folder, BRATS)
    files = [file for scan in scans for file in scan.files]
    with joblib.Parallel(n_jobs=2) as pool:
        pool(joblib.delayed(read_ours)(scan) for scan in scans[:4])
        candidates = {
            "plain loop, one process": lambda: [read_plainly(file) for file in files],
            "ours, one process": lambda: [read_ours(scan) for scan in scans],
            "ours, two processes": lambda: pool(joblib.delayed(read_ours)(scan) for scan in scans),
        }
        report(candidates, len(files), rounds, "slices/s")


def write_slices(folder: Path, target: Path, count: int) -> Store:
    """A store of `count` rows: the folder's slices, repeated as often as it takes."""
    slices = [pair for scan in find_scans(folder, BRATS) for pair in read_ours(scan)]
    chosen = [slices[k % len(slices)] for k in range(count)]

    def chunks() -> Any:
        for start in range(0, count, 128):
            part = chosen[start : start + 128]
            file = np.array([f"row {start + k}" for k in range(len(part))], dtype=object)
            brains = pd.DataFrame([locate_brain(image, labels) for image, labels in part]).astype(np.int16)
            arrays = {"image": np.stack([i for i, _ in part]), "labels": np.stack([m for _, m in part])}
            yield (
                arrays
                | {"slice": np.arange(len(part)), "file": file}
                | {name: brains[name].to_numpy() for name in brains}
            )

    write_store(target, StoreContent({}, chunks()))
    return Store(target)


def benchmark_feed(folder: Path, rounds: int) -> None:
    """Batches of 32, shuffled, as training takes them: fp32, channels last."""
    files = [file for scan in find_scans(folder, BRATS) for file in scan.files]
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        rows = Rows(write_slices(folder, Path(scratch) / "slices.h5", 8 * len(files)), np.arange(8 * len(files)))
        loaders = {
            f"{way} slices": load(rows, BatchSampler(rows, 32, seed=0), torch.device("cpu"), budget, workers)
            for way, budget, workers in (("resident", 1e9, 0), ("streamed", 0, 0))
        }

        def feed(loader: DataLoader) -> None:
            for batch in loader:
                batch["image"].float().contiguous(memory_format=torch.channels_last)

        ways = {"plain loop": lambda: [read_plainly(file) for file in files[:64]]} | {
            way: partial(feed, loader) for way, loader in loaders.items()
        }
        report(ways, {"plain loop": len(files[:64])} | {way: len(rows) for way in loaders}, rounds, "slices/s")


def benchmark_formats(folder: Path, rounds: int) -> None:
    """Size, speed and error of the store's image in several types and compressions.

    Rows are read one by one, shuffled.
    """
    image, _ = prepare_all(folder)
    order = np.random.default_rng(0).permutation(len(image))
    step = 12 / 255
    types = {
        "float16": (image, lambda x: x),
        "uint8": (
            np.clip(np.rint(image / step) + 85, 0, 255).astype(np.uint8),
            lambda x: (x.astype(np.float32) - 85) * step,
        ),
    }
    compressions = {
        "none": {},
        "lzf": {"compression": "lzf"},
        "lzf, shuffled": {"compression": "lzf", "shuffle": True},
        "blosc lz4": dict(hdf5plugin.Blosc(cname="lz4", clevel=3, shuffle=hdf5plugin.Blosc.NOSHUFFLE)),
        "blosc2 lz4": dict(hdf5plugin.Blosc2(cname="lz4", clevel=3)),
        "blosc2 zstd": dict(hdf5plugin.Blosc2(cname="zstd", clevel=3)),
    }
    print(f"{'type':9}{'compression':16}{'KiB/slice':>10}{'write /s':>10}{'read /s':>10}{'largest error':>15}")
    with tempfile.TemporaryDirectory() as scratch:
        for name, (array, restore) in types.items():
            error = np.abs(restore(array).astype(np.float32) - image.astype(np.float32)).max()
            for compression, options in compressions.items():
                path = Path(scratch) / f"{name}.h5"
                writes, reads = [], []
                for _ in range(rounds):
                    start = perf_counter()
                    with h5py.File(path, "w") as file:
                        file.create_dataset("image", data=array, chunks=(1, *array.shape[1:]), **options)
                    writes.append(perf_counter() - start)
                    start = perf_counter()
                    with h5py.File(path) as file:
                        for row in order:
                            file["image"][row]
                    reads.append(perf_counter() - start)
                n, size = len(array), path.stat().st_size / len(array) / 1024
                print(
                    f"{name:9}{compression:16}{size:10.1f}{n / statistics.median(writes):10.0f}"
                    f"{n / statistics.median(reads):10.0f}{error:15.4f}"
                )


def prepare_all(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Every slice of the folder, prepared."""
    slices = [pair for scan in find_scans(folder, BRATS) for pair in read_ours(scan)]
    images, labels = zip(*slices, strict=True)
    return np.stack(images), np.stack(labels)


def report(candidates: dict[str, Callable[[], object]], count: int | dict[str, int], rounds: int, unit: str) -> None:
    """Run the candidates in turn; print medians, and the ratio to the first."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            start = perf_counter()
            work()
            times[name].append(perf_counter() - start)
    speeds = {
        name: (count if isinstance(count, int) else count[name]) / statistics.median(t) for name, t in times.items()
    }
    baseline = next(iter(speeds.values()))
    for name, speed in speeds.items():
        print(f"{name:28}{speed:10.0f} {unit}{speed / baseline:8.2f} x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["read", "formats", "feed"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    {"read": benchmark_read, "formats": benchmark_formats, "feed": benchmark_feed}[arguments.what](
        arguments.folder, arguments.rounds
    )
