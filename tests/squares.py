"""A tiny data set that networks learn in seconds: bright squares in noise.

Run as a program, it trains on them and prints a digest of the weights.
"""

import hashlib
import logging
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import Store, StoreContent, write_store
from brain_tumor.data.scans.brain_crop import BRAIN
from brain_tumor.networks import build
from brain_tumor.training.batches import Rows
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.fit import Fitted, Job, fit
from brain_tumor.training.processes import OtherMachineGoesOn
from brain_tumor.training.segmentation.task import MONITOR, SegmentationTask
from brain_tumor.training.settings import EngineSettings, SegmentationRecipe

TARGETS = {"NCR": (1,), "ED": (2,), "ET": (3,), "WT": (1, 2, 3), "TC": (1, 3)}
CPU = EngineSettings(device="cpu", precision="fp32")


def save_squares(folder: Path, count: int = 12, brain: BoundingBox | None = None) -> Store:
    """Slices of a bright square (oedema) with a brighter middle (rim) somewhere in noise.

    Args:
        brain: what the store says of where brains are, if anything.
    """
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.3, (count, 4, 32, 32)).astype(np.float16)
    labels = np.zeros((count, 32, 32), np.uint8)
    for k in range(count):
        r, c = rng.integers(2, 16, 2)
        labels[k, r : r + 12, c : c + 12] = 2
        labels[k, r + 4 : r + 8, c + 4 : c + 8] = 3
    image[:, 0] += 2 * (labels > 0)
    image[:, 2] += 3 * (labels == 3)
    file = np.array([f"square_{k}.h5" for k in range(count)], dtype=object)
    chunk = {"image": image, "labels": labels, "slice": np.arange(count), "file": file}
    if brain:
        chunk |= {name: np.full(count, end, np.int16) for name, end in zip(BRAIN, brain, strict=True)}
    write_store(folder / "squares.h5", StoreContent({}, iter([chunk])))
    return Store(folder / "squares.h5")


def job(
    store: Store, folder: Path, recipe: SegmentationRecipe, engine: EngineSettings = CPU, network: str = "classic_unet"
) -> Job:
    """Training on all squares, validated on the same."""
    torch.manual_seed(engine.seed)
    example = torch.from_numpy(store.read(np.array([0]), "image")[0][0]).float()
    task = SegmentationTask(build(network, n_filters=8), TARGETS, 3, recipe, engine.seed, example)
    rows = Rows(store, np.arange(len(store.rows)))
    return Job(task, rows, rows, MONITOR, recipe, engine, Checkpoints(folder))


def digest(fitted: Fitted) -> str:
    """Equal for bit-identical weights, logs and snapshots."""
    arrays = [*(value.numpy() for value in fitted.weights.values()), fitted.log.drop(columns="seconds").to_numpy()]
    arrays += [value.numpy() for snapshot in fitted.snapshots for value in snapshot.values()]
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def gradient_of_a_step(job: Job) -> dict[str, Tensor]:
    """The gradient of each parameter after one step of Adam, whose first moment is a tenth of it."""
    fit(job)
    (state,) = job.checkpoints.newest()[1]["optimizer_states"]
    names = [name for name, _ in job.task.named_parameters()]
    return {names[number]: 10 * moments["exp_avg"] for number, moments in state["state"].items()}


def assert_gradients_agree(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Taken as sums in another order: of up to 10^5 products, whose rounding of 6e-8 each is random: 2e-5 in all.

    Some gradients are nothing but rounding, so they are also measured by the largest.
    """
    assert one.keys() == other.keys()
    largest = max(value.norm() for value in one.values())
    for name, value in one.items():
        assert (value - other[name]).norm() <= 1e-3 * value.norm() + 1e-5 * largest, name


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    store, folder, recipe, engine = sys.argv[1:]
    made = job(
        Store(Path(store)),
        Path(folder),
        SegmentationRecipe.model_validate_json(recipe),
        EngineSettings.model_validate_json(engine),
    )
    with suppress(OtherMachineGoesOn):
        print(digest(fit(made)))
