"""Batches of a store's rows: kept in memory or streamed, in an order that is a function of seed and epoch."""

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

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
"""Where Linux keeps memory that processes share; docker gives it 64 MB."""

Batch = dict[str, Tensor]
"""Arrays of the store at some rows, as stored, and `row`: which rows."""


@dataclass(frozen=True)
class Rows:
    """Rows of a store that are learned from together. Can be sent to another process.

    Attributes:
        rows: int (n,), their numbers.
        names: arrays to read.
        undersampled: bool (n,), those of which a pass over the data sees only `share`, rounded up, the next ones in the next
            pass; None: it sees all.
    """

    store: Store
    rows: np.ndarray
    names: tuple[str, ...] = ("image", "labels")
    undersampled: np.ndarray | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def window(self) -> BoundingBox:
        """The part of each image that is read."""
        return find_brain_crop(self.store)

    def read(self, numbers: np.ndarray) -> Batch:
        """Arrays at rows of the store, within the window."""
        arrays = self.store.read(numbers, *self.names, window=self.window)
        return {name: torch.from_numpy(array) for name, array in zip(self.names, arrays, strict=True)}

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self) * sum(array.nbytes for array in self.read(self.rows[:1]).values())


class InMemoryRows(Dataset[Batch]):
    """All rows in the memory of a device."""

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self.arrays = {name: array.to(device) for name, array in rows.read(rows.rows).items()}
        self.arrays["row"] = torch.from_numpy(rows.rows).to(device)

    def __getitem__(self, chosen: np.ndarray) -> Batch:
        index = torch.from_numpy(chosen).to(self.arrays["row"].device)
        return {name: array[index] for name, array in self.arrays.items()}


class StreamedRows(Dataset[Batch]):
    """Rows read from the store when they are asked for."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitem__(self, chosen: np.ndarray) -> Batch:
        numbers = self.rows.rows[chosen]
        order = np.argsort(numbers)  # neighbours are read in one go
        back = torch.from_numpy(np.argsort(order))
        return {name: array[back] for name, array in self.rows.read(numbers[order]).items()} | {
            "row": torch.from_numpy(numbers)
        }


class BatchSampler(Sampler[np.ndarray]):
    """Which rows each batch of an epoch holds.

    With a seed, shuffled: passes over the data, each in an order of its own, follow each other and are cut into full
    batches; the last pass of an epoch may be cut short. Without, every row once, in order. Each of several processes
    gets its share of each batch.

    Args:
        rows: what is ordered; its `undersampled` counts with a seed only.
        batch_size: over all processes.
        least: batches in a shuffled epoch; a small data set is passed over as often as it takes.
        rank: of this process, of `ranks`.
    """

    def __init__(
        self, rows: Rows, batch_size: int, seed: int | None = None, least: int = 1, rank: int = 0, ranks: int = 1
    ) -> None:
        self.batch_size, self.seed, self.rank, self.ranks, self.epoch = batch_size, seed, rank, ranks, 0
        undersampled = np.zeros(len(rows), bool) if rows.undersampled is None or seed is None else rows.undersampled
        self.always, self.undersampled = np.flatnonzero(~undersampled), np.flatnonzero(undersampled)
        self.chosen = ceil(round(rows.share * len(self.undersampled), 9))
        self.length = len(self.always) + self.chosen
        if not self.length:
            raise ValueError(
                "no slice shows tumour and none of the others is learned from; set the recipe's empty_slice_rate above 0"
            )
        self.batches = max(1 if seed is None else least, -(-self.length // batch_size))

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[np.ndarray]:
        order = self.always if self.seed is None else self._shuffled(self.seed)
        return (
            order[start + self.rank : start + self.batch_size : self.ranks]
            for start in range(0, self.batches * self.batch_size, self.batch_size)
        )

    def _shuffled(self, seed: int) -> np.ndarray:
        needed = self.batches * self.batch_size
        passes, turns = ceil(needed / self.length), np.random.default_rng(seed).permutation(self.undersampled)
        order = []
        for number in range(passes):
            turn = (
                self.epoch * (needed // self.length) + number
            ) * self.chosen  # a pass that is cut short is taken up by the next epoch
            rows = np.concatenate([self.always, np.take(turns, np.arange(turn, turn + self.chosen), mode="wrap")])
            order.append(np.random.default_rng([seed, self.epoch, number]).permutation(rows))
        return np.concatenate(order)[:needed]


def load(rows: Rows, order: BatchSampler, device: torch.device, resident_gb: float, workers: int) -> DataLoader[Batch]:
    """A loader of whole batches.

    From the device's memory if they take at most `resident_gb`, else from the store by `workers` processes.
    """
    if rows.size <= resident_gb * 1e9:
        return DataLoader(InMemoryRows(rows, device), sampler=order, batch_size=None)
    logger.info(
        "%d rows take %.1f GB, more than training.resident_gb: streaming them from %s",
        len(rows),
        rows.size / 1e9,
        rows.store.path,
    )
    return DataLoader(
        StreamedRows(rows),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        collate_fn=hand_over,  # type: ignore[arg-type]  # without a batch size it gets what the data set gives
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )


def count_workers(asked: int, processes: int) -> int:
    """Loader workers of each of several processes on this machine: no more in all than it has cores for them."""
    return min(asked, joblib.cpu_count() // processes)


class Piped:
    """A tensor on its way to another process through the pipe between them, instead of in memory that both share."""

    def __init__(self, tensor: Tensor) -> None:
        self.array = tensor.numpy()

    def __reduce__(self) -> tuple[Callable[[Any], Tensor], tuple[np.ndarray]]:
        return torch.from_numpy, (self.array,)


def hand_over(batch: Batch) -> dict[str, Tensor | Piped]:
    """A batch as a worker gives it to the process that trains: in shared memory if that has room, else through a pipe.

    torch would look for room only when the batch is on its way, where a failure is told to nobody: the process that
    trains would wait for ever.
    """
    return {name: tensor if get_worker_info() is None else _share(tensor) for name, tensor in batch.items()}


def _share(tensor: Tensor) -> Tensor | Piped:
    # Looked at first, because a failure leaves an empty file behind.
    if not SHARED_MEMORY.is_dir() or disk_usage(SHARED_MEMORY).free > 2 * tensor.nbytes:
        try:
            return tensor.share_memory_()
        except (OSError, RuntimeError):  # other processes were quicker
            pass
    _warn_of_full_memory()
    return Piped(tensor)


@cache
def _warn_of_full_memory() -> None:
    """Once in each worker."""
    logger.warning(
        "%s has no room for a batch, which goes through a pipe instead and takes longer; to make room: "
        "docker run --shm-size=1g, or set training.loader_workers to 0",
        SHARED_MEMORY,
    )
