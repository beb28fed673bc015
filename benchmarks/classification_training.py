"""How fast the CNN is trained, against the same network trained the plain way in the same run.

    python benchmarks/classification_training.py FOLDER

FOLDER holds Training and Testing. The plain way: every JPEG of a batch is read, resized to 128 x 128 and augmented
(mirrored, turned by up to 10 degrees, brightness and contrast by up to 20 %) with Pillow when it is needed, NCHW, fp32,
Adam, batches of 64 from a DataLoader without workers. Ours: the project's own loop on a store of the same images, its
augmentation, a checkpoint and the validation of 32 images after each epoch. Each way trains in a process of its own,
because ours changes how memory is allocated. Rounds of one epoch alternate between them, medians are printed.
"""

import argparse
import logging
import os
import statistics
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from brain_tumor.data.common.store import Store, StoreContent, write_store
from brain_tumor.data.images.borders import cut, find_box
from brain_tumor.data.images.class_folders import ImageSet, find_images, read_image
from brain_tumor.data.simulation.images import CLASSES
from brain_tumor.networks import build
from brain_tumor.training.batches import Rows
from brain_tumor.training.checkpoints import Checkpoints
from brain_tumor.training.classification.task import MONITOR, NAMES, ClassificationTask
from brain_tumor.training.fit import Job, fit
from brain_tumor.training.settings import ClassificationRecipe, EngineSettings, ImageAugmentation

SIZE, BATCH, IMAGES, VALIDATION = 128, 64, 1024, 32
# our epoch passes over the images as often: 80 batches, as the whole training folder has; the plain way costs nothing
# for an epoch
LONGER = 5
DATA_SET = ImageSet(name="Brain Tumor MRI Dataset", classes=CLASSES)
AUGMENTATION = ImageAugmentation(
    horizontal_flip=0.5, affine=1, rotation=10, scaling=0, shift=0, intensity=1, contrast=0.2, brightness=0.2
)


def choose(folder: Path) -> list[tuple[Path, int]]:
    """Files spread over all classes, and their labels."""
    images = [image for image in find_images(folder, DATA_SET) if image.folder == DATA_SET.training]
    chosen = [images[k] for k in np.linspace(0, len(images) - 1, IMAGES).astype(int)]
    return [(image.path, CLASSES.index(image.kind)) for image in chosen]


class PlainImages(Dataset):
    """One image at a time, read and augmented when it is asked for."""

    def __init__(self, files: list[tuple[Path, int]]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
        path, label = self.files[k]
        with Image.open(path) as opened:
            image = opened.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        flip, turn, brightness, contrast = np.random.default_rng().uniform(-1, 1, 4)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip > 0 else image
        image = ImageEnhance.Brightness(image.rotate(10 * turn)).enhance(1 + 0.2 * brightness)
        image = ImageEnhance.Contrast(image).enhance(1 + 0.2 * contrast)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255, label


def train_plainly(turn: Connection, files: list[tuple[Path, int]], _: Store, rounds: int) -> None:
    """Epochs of the plain loop, one at each turn."""
    torch.manual_seed(0)
    network = build("cnn")
    optimiser = torch.optim.Adam(network.parameters(), 1e-4, weight_decay=1e-5)
    loader = DataLoader(PlainImages(files), BATCH, shuffle=True)
    turn.send("ready")
    for _ in range(rounds):
        turn.recv()
        network.train()
        for image, label in loader:
            loss = cross_entropy(network(image), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        turn.send("done")


class Timed(ClassificationTask):
    """Waits for its turn at each epoch."""

    turn: Connection

    def on_train_epoch_start(self) -> None:
        """Say that the epoch before is done, wait."""
        self.turn.send("done")
        self.turn.recv()


def train_ours(turn: Connection, files: list[tuple[Path, int]], store: Store, rounds: int) -> None:
    """Epochs of the project's loop, one at each turn."""
    logging.disable()
    torch.manual_seed(0)
    recipe = ClassificationRecipe(
        epochs=rounds,
        patience=rounds,
        batch_size=BATCH,
        epoch_steps=LONGER * IMAGES // BATCH,
        augmentation=AUGMENTATION,
    )
    with tempfile.TemporaryDirectory() as checkpoints:
        task = Timed(build("cnn"), 3, [1] * len(CLASSES), recipe, 0)
        task.turn = turn
        validation = Rows(store, np.arange(VALIDATION), NAMES)
        fit(
            Job(
                task,
                Rows(store, np.arange(len(files)), NAMES),
                validation,
                MONITOR,
                recipe,
                EngineSettings(),
                Checkpoints(Path(checkpoints)),
            )
        )
    turn.send("done")


def write_images(files: list[tuple[Path, int]], target: Path) -> Store:
    """The store that ours reads."""
    pictures = [read_image(path).grey for path, _ in files]
    chunk = {
        "image": np.stack([cut(grey, find_box(grey), SIZE) for grey in pictures])[:, None],
        "label": np.array([label for _, label in files], np.uint8),
        "file": np.array([path.name for path, _ in files], object),
    }
    write_store(target, StoreContent({}, iter([chunk])))
    return Store(target)


def measure(folder: Path, rounds: int) -> None:
    """Images a second of each way, in alternation."""
    context = get_context("spawn")
    files = choose(folder)
    with tempfile.TemporaryDirectory() as scratch:
        store = write_images(files, Path(scratch) / "images.h5")
        pipes, seconds = {}, {}
        for way, function in (("plain", train_plainly), ("ours", train_ours)):
            os.environ["THP_MEM_ALLOC_ENABLE"] = "1" if way == "ours" else "0"  # huge pages are part of our way
            pipes[way], other = context.Pipe()
            context.Process(target=function, args=(other, files, store, rounds + 1), daemon=True).start()
        for pipe in pipes.values():
            pipe.recv()
        for number in range(rounds + 1):
            for way, pipe in pipes.items():
                start = perf_counter()
                pipe.send("go")
                pipe.recv()
                if number:  # the first epoch warms up
                    seconds.setdefault(way, []).append(perf_counter() - start)
    rate = {
        way: len(files) * (LONGER if way == "ours" else 1) / statistics.median(values)
        for way, values in seconds.items()
    }
    print(f"{torch.get_num_threads()} threads")
    for way, value in rate.items():
        print(f"{way:8}{value:8.0f} images/s{value / rate['plain']:8.2f} x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="epochs timed of each way")
    arguments = parser.parse_args()
    measure(arguments.folder, arguments.rounds)
