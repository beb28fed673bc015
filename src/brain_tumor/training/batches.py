"""Batches of slices held in memory, in an order that is a function of seed and epoch."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float16, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Batch = dict[str, Tensor]
"""`image` float32 (b, m, s, s) and `labels` uint8 (b, s, s)."""


class ResidentSlices(Dataset[Batch]):
    """Slices in memory; indexing takes all rows of a batch at once."""

    def __init__(self, image: Float16[np.ndarray, "n m s s"], labels: UInt8[np.ndarray, "n s s"]) -> None:
        self.image, self.labels = torch.from_numpy(image), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: list[int]) -> Batch:
        image = self.image[rows].float().contiguous(memory_format=torch.channels_last)
        return {"image": image, "labels": self.labels[rows]}


class BatchOrder(Sampler[list[int]]):
    """Rows of each batch: in their order, or with a seed shuffled anew for each pass over the data. The last batch of a pass may be smaller.

    Args:
        least: batches in an epoch; a small data set is passed over as often as it takes.
    """

    def __init__(self, length: int, batch_size: int, seed: int | None = None, least: int = 1) -> None:
        self.length, self.batch_size, self.seed, self.epoch = length, batch_size, seed, 0
        self.batches_per_pass = -(-length // batch_size)
        self.passes = -(-least // self.batches_per_pass)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.passes * self.batches_per_pass

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.passes):
            rows = np.arange(self.length)
            if self.seed is not None:
                np.random.default_rng([self.seed, self.epoch, number]).shuffle(rows)
            yield from (rows[start : start + self.batch_size].tolist() for start in range(0, self.length, self.batch_size))


def load(slices: ResidentSlices, batch_size: int, seed: int | None = None, least: int = 1) -> DataLoader[Batch]:
    """A loader of whole batches in a `BatchOrder`."""
    return DataLoader(slices, sampler=BatchOrder(len(slices), batch_size, seed, least), batch_size=None)
