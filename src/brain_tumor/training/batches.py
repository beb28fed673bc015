"""Batches of a store's rows, in memory or streamed, in an order that is a function of seed and epoch."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from math import ceil
from pathlib import Path
from shutil import disk_usage
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import Store
from brain_tumor.data.scans.brain_crop import find_brain_crop
from brain_tumor.training.device import send

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
"""File system of shared memory on Linux; 64 MB in docker."""

Batch = dict[str, Tensor]
"""Arrays of the store at some rows, as stored, and `row`: the row numbers."""


@dataclass(frozen=True)
class Rows:
    """A subset of a store's rows. Can be sent to another process.

    Attributes:
        rows: int (n,), row numbers.
        names: arrays to read.
        undersampled: bool (n,), rows of which an epoch samples a fraction, in rotation; None samples all.
        rate: that fraction; the number of rows is rounded up.
    """

    store: Store
    rows: np.ndarray
    names: tuple[str, ...] = ("image", "labels")
    undersampled: np.ndarray | None = None
    rate: float = 1.0

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def window(self) -> BoundingBox:
        """The part of each image that is read: the brain crop."""
        return find_brain_crop(self.store)

    def read(self, numbers: np.ndarray) -> Batch:
        """Arrays at rows of the store, within the window."""
        arrays = self.store.read(numbers, *self.names, window=self.window)
        tensors = map(torch.from_numpy, arrays)
        return dict(zip(self.names, tensors, strict=True))

    @property
    def size(self) -> int:
        """Bytes in memory."""
        # Every row takes as much as the first.
        first = self.read(self.rows[:1])
        return len(self) * sum(array.nbytes for array in first.values())


class InMemoryRows(Dataset[Batch]):
    """All rows, in the memory of a device."""

    def __init__(self, rows: Rows, device: torch.device) -> None:
        read = rows.read(rows.rows)
        self.arrays = {name: array.to(device) for name, array in read.items()}
        self.arrays["row"] = torch.from_numpy(rows.rows).to(device)

    def __getitem__(self, chosen: np.ndarray) -> Batch:
        index = send(torch.from_numpy(chosen), self.arrays["row"].device)
        return {name: array[index] for name, array in self.arrays.items()}


class StreamedRows(Dataset[Batch]):
    """Rows, read from the store batch by batch."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitem__(self, chosen: np.ndarray) -> Batch:
        numbers = self.rows.rows[chosen]
        # Sorted, so that neighbours in the file are read in one go.
        order = np.argsort(numbers)
        back = torch.from_numpy(np.argsort(order))
        read = self.rows.read(numbers[order])
        batch = {name: array[back] for name, array in read.items()}
        return batch | {"row": torch.from_numpy(numbers)}


class BatchSampler(Sampler[np.ndarray]):
    """Indices of each batch of an epoch.

    With a seed: shuffled passes over the data, cut into full batches; the last pass of an epoch may be incomplete.
    Without: every row once, in order. Each of several processes gets its part of each batch.

    Args:
        rows: their `undersampled` is used with a seed only.
        batch_size: over all processes.
        min_batches: of a shuffled epoch; a small data set is passed over several times.
        rank: of this process, of `ranks`.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        seed: int | None = None,
        min_batches: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.batch_size, self.seed = batch_size, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        undersampled = rows.undersampled
        if undersampled is None or seed is None:
            undersampled = np.zeros(len(rows), bool)
        self.always = np.flatnonzero(~undersampled)
        self.undersampled = np.flatnonzero(undersampled)
        # Rounded first: 0.07 of 100 is 7.000000000000001 in floating point.
        self.chosen = ceil(round(rows.rate * len(self.undersampled), 9))
        self.length = len(self.always) + self.chosen
        if not self.length:
            raise ValueError(
                "no slice shows tumour and none of the others is trained on; set the recipe's empty_slice_rate above 0"
            )
        least = 1 if seed is None else min_batches
        self.batches = max(least, ceil(self.length / batch_size))

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[np.ndarray]:
        order = self.always if self.seed is None else self._shuffled(self.seed)
        # A list, not a generator: the order is that of the epoch in which the iterator is made.
        parts = []
        for number in range(self.batches):
            start = number * self.batch_size
            batch = order[start : start + self.batch_size]
            # Every so many-th from the own rank on, so that the parts of all processes are as large.
            parts.append(batch[self.rank :: self.ranks])
        return iter(parts)

    def _shuffled(self, seed: int) -> np.ndarray:
        needed = self.batches * self.batch_size
        # An incomplete pass doesn't count: the next epoch starts with its rows.
        complete = needed // self.length
        rotation = np.random.default_rng(seed).permutation(self.undersampled)
        order = []
        for number in range(ceil(needed / self.length)):
            start = (self.epoch * complete + number) * self.chosen
            places = np.arange(start, start + self.chosen)
            sampled = np.take(rotation, places, mode="wrap")
            rows = np.concatenate([self.always, sampled])
            # A generator of its own for each pass: the order doesn't depend on epochs before a resume.
            rng = np.random.default_rng([seed, self.epoch, number])
            order.append(rng.permutation(rows))
        return np.concatenate(order)[:needed]


def load(
    rows: Rows,
    order: BatchSampler,
    device: torch.device,
    resident_gb: float,
    workers: int,
) -> DataLoader[Batch]:
    """Loader of whole batches: from the device's memory up to `resident_gb` (10^9 bytes), else streamed by workers."""
    if rows.size <= resident_gb * 1e9:
        return DataLoader(InMemoryRows(rows, device), sampler=order, batch_size=None)
    message = "%d rows take %.1f GB, more than training.resident_gb: streaming them from %s"
    logger.info(message, len(rows), rows.size / 1e9, rows.store.path)
    # Without a batch size, torch's loader takes what the sampler gives as one index, and collates nothing.
    return DataLoader(
        StreamedRows(rows),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        collate_fn=hand_over,  # type: ignore[arg-type]
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )


def count_workers(asked: int, processes: int) -> int:
    """Loader workers of each process on this machine, in all no more than it has cores."""
    return min(asked, joblib.cpu_count() // processes)


class Piped:
    """A tensor that is pickled through the pipe between two processes instead of put into shared memory."""

    def __init__(self, tensor: Tensor) -> None:
        self.array = tensor.numpy()

    def __reduce__(self) -> tuple[Callable[[Any], Tensor], tuple[np.ndarray]]:
        return torch.from_numpy, (self.array,)


def hand_over(batch: Batch) -> dict[str, Tensor | Piped]:
    """A batch as a worker passes it on: in shared memory if that has room, else through a pipe."""
    # torch itself would fail while it passes the batch on, without an error, and training would wait for ever.
    if get_worker_info() is None:
        return dict(batch)
    return {name: _share(tensor) for name, tensor in batch.items()}


def _share(tensor: Tensor) -> Tensor | Piped:
    # Checked first, because a failure leaves an empty file behind.
    has_room = not SHARED_MEMORY.is_dir() or disk_usage(SHARED_MEMORY).free > 2 * tensor.nbytes
    if has_room:
        try:
            return tensor.share_memory_()
        except (OSError, RuntimeError):
            # Other processes have taken the room meanwhile.
            pass
    _warn_of_full_memory()
    return Piped(tensor)


@cache
def _warn_of_full_memory() -> None:
    # Once in each worker, by the cache.
    logger.warning(
        "%s has no room for a batch, which goes through a pipe instead and takes longer; to make room: "
        "docker run --shm-size=1g, or set training.loader_workers to 0",
        SHARED_MEMORY,
    )
