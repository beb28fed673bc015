"""What is trained in the benchmark of CUDA: networks, sizes, batches, and a store of noise to train on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from brain_tumor.data.common.store import Store, StoreContent, write_store
from brain_tumor.networks import NETWORKS, build, networks_of
from brain_tumor.training.batches import Batch, Rows
from brain_tumor.training.classification import task as classification
from brain_tumor.training.classification.normalisation import MEAN, STANDARD_DEVIATION
from brain_tumor.training.segmentation import task as segmentation
from brain_tumor.training.segmentation.labels import to_channels
from brain_tumor.training.segmentation.losses import DiceBCELoss
from brain_tumor.training.settings import ClassificationRecipe, Recipe, SegmentationRecipe
from brain_tumor.training.task import Task

TARGETS = {"NCR": (1,), "ED": (2,), "ET": (3,), "WT": (1, 2, 3), "TC": (1, 3)}
MODALITIES, TISSUES, CLASSES = 4, 3, 4
CLASSIFIER_CHANNELS = 3
PIXELS_OF_CLASSIFIERS = 128

SMALL_CLASSIFIERS: dict[str, dict[str, int]] = {
    "cnn": {"n_filters": 6},
    "alexnet": {"n_filters": 6},
    "vgg16": {"n_filters": 2, "hidden": 16},
    "vit": {"width": 16, "depth": 2, "heads": 2, "hidden": 16},
}


@dataclass(frozen=True)
class Case:
    """A network at its sizes, and the batches that it is trained on.

    Attributes:
        pixels: side of the slices or images.
    """

    network: str
    pixels: int
    batch: int
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Segmentation or classification."""
        return NETWORKS[self.network][0]

    @property
    def filters(self) -> int | None:
        """Filters of a U-Net; None of a classifier, whose sizes are the published ones."""
        return self.sizes.get("n_filters") if self.task == "segmentation" else None

    @property
    def name(self) -> str:
        """Network, filters, pixels and batch on one line."""
        width = f" f{self.filters}" if self.filters else ""
        return f"{self.network}{width} {self.pixels}px b{self.batch}"

    def build(self) -> nn.Module:
        """The network with the weights of seed 0."""
        torch.manual_seed(0)
        if self.task == "segmentation":
            return build(self.network, **self.sizes)
        return build(self.network, in_channels=CLASSIFIER_CHANNELS, image_size=self.pixels, **self.sizes)

    def recipe(self, **settings: Any) -> Recipe:
        """The recipe of the task with these settings."""
        kind = SegmentationRecipe if self.task == "segmentation" else ClassificationRecipe
        return kind(batch_size=self.batch, **settings)

    def make_task(self, recipe: Recipe, mixin: type | None = None) -> Task:
        """The project's Lightning module; with a mixin, whose hooks come first."""
        kind = segmentation.SegmentationTask if self.task == "segmentation" else classification.ClassificationTask
        if mixin:
            kind = type(f"Timed{kind.__name__}", (mixin, kind), {})
        if self.task == "segmentation":
            return kind(self.build(), TARGETS, TISSUES, recipe, 0)
        return kind(self.build(), CLASSIFIER_CHANNELS, [1] * CLASSES, recipe, 0)

    @property
    def arrays(self) -> tuple[str, str]:
        """Names of the store's arrays."""
        return ("image", "labels") if self.task == "segmentation" else classification.NAMES

    @property
    def monitor(self) -> str:
        """Score of checkpoint selection."""
        return segmentation.MONITOR if self.task == "segmentation" else classification.MONITOR

    def rows(self, store: Store, numbers: np.ndarray) -> Rows:
        """Rows of the store."""
        return Rows(store, numbers, self.arrays)

    def to_pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The network's input in fp32, and the truth of the loss, from arrays as they are stored."""
        if self.task == "segmentation":
            return batch["image"].float(), to_channels(batch["labels"], TISSUES)
        normalised = (batch["image"].float() - MEAN) / STANDARD_DEVIATION
        return normalised.expand(-1, CLASSIFIER_CHANNELS, -1, -1), batch["label"].long()

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of the recipe."""
        if self.task == "segmentation":
            return DiceBCELoss(0.5)(logits, truth)
        return cross_entropy(logits.float(), truth)


def full_cases() -> Iterator[Case]:
    """All cases, those that are asked about first; a time that is too short leaves out the last ones."""
    for filters, pixels, batch in ((32, 240, 32), (32, 240, 128)):
        yield from (Case(name, pixels, batch, {"n_filters": filters}) for name in networks_of("segmentation"))
    yield from (Case(name, PIXELS_OF_CLASSIFIERS, 64) for name in networks_of("classification"))
    for filters, pixels, batch in product((32, 16), (240, 128), (32, 128)):
        if (filters, pixels) != (32, 240):
            yield from (Case(name, pixels, batch, {"n_filters": filters}) for name in networks_of("segmentation"))


def small_cases() -> Iterator[Case]:
    """The same networks, narrow and on few pixels, for a CPU."""
    yield from (Case(name, 32, 4, {"n_filters": 4}) for name in networks_of("segmentation"))
    yield from (Case(name, 96, 4, SMALL_CLASSIFIERS[name]) for name in networks_of("classification"))


class Stores:
    """A store for each task and number of pixels: of noise, or for segmentation the one that is given.

    Args:
        folder: where those of noise are written when they are first asked for.
        rows: of each of them.
    """

    def __init__(self, folder: Path, rows: int, given: Path | None = None) -> None:
        self.folder, self.rows, self.given = folder, rows, given

    def of(self, case: Case) -> Store:
        """The store that a case is trained on."""
        if self.given and case.task == "segmentation":
            return Store(self.given)
        return self.noise(case)

    def noise(self, case: Case) -> Store:
        """A store of noise, in the sizes of the case."""
        path = self.folder / f"{case.task}_{case.pixels}.h5"
        if not path.is_file():
            write_store(path, StoreContent({}, iter([noise(case, self.rows)])))
        return Store(path)


def noise(case: Case, rows: int) -> dict[str, np.ndarray]:
    """Rows of noise in a disc, 0 around it, with labels in its middle; in the types that are stored."""
    rng = np.random.default_rng(0)
    side = case.pixels
    across = np.linspace(-1, 1, side)
    radius = np.hypot(*np.meshgrid(across, across))
    file = np.array([f"noise {number}" for number in range(rows)], dtype=object)
    if case.task == "classification":
        image = rng.integers(0, 256, (rows, 1, side, side), dtype=np.uint8) * (radius < 0.9)
        return {"image": image.astype(np.uint8), "label": rng.integers(0, CLASSES, rows).astype(np.uint8), "file": file}
    image = rng.standard_normal((rows, MODALITIES, side, side), dtype=np.float32) * (radius < 0.9)
    labels = rng.integers(0, TISSUES + 1, (rows, side, side), dtype=np.uint8) * (radius < 0.3)
    # Something to learn: losses that only wander say nothing of a wrong gradient.
    image[:, 0] += labels
    return {
        "image": image.astype(np.float16),
        "labels": labels.astype(np.uint8),
        "slice": np.arange(rows),
        "file": file,
    }
