import pickle
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from squares import save_squares

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import Store
from brain_tumor.training.batches import BatchSampler, InMemoryRows, Piped, Rows, StreamedRows, count_workers, load

CPU = torch.device("cpu")


def batches(order):
    return [batch.tolist() for batch in order]


def rows_of(count, **fields):
    return Rows(Store(Path("none.h5")), np.arange(count), **fields)


def test_passes_follow_each_other_in_full_batches():
    order = BatchSampler(rows_of(10), 4, seed=3, min_batches=5)
    first = batches(order)
    assert [len(batch) for batch in first] == [4] * 5
    rows = list(chain(*first))
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10] != rows[10:]
    assert batches(order) == first
    order.set_epoch(1)
    assert batches(order) != first
    assert len(BatchSampler(rows_of(10), 4, seed=3)) == 3


def test_without_a_seed_every_row_comes_once_in_order():
    assert batches(BatchSampler(rows_of(5), 2)) == [[0, 1], [2, 3], [4]]


def test_rows_that_are_seldom_seen_take_turns():
    undersampled = np.arange(10) < 6
    order = BatchSampler(rows_of(10, undersampled=undersampled, rate=0.5), 7, seed=3, min_batches=2)
    for epoch in range(3):
        order.set_epoch(epoch)
        first, second = batches(order)
        assert sorted(first)[3:] == sorted(second)[3:] == [6, 7, 8, 9]
        assert set(first) | set(second) == set(range(10))
        assert batches(order) == [first, second]
    # Four batches: a pass and a bit of the next.
    many = BatchSampler(rows_of(40, undersampled=np.arange(40) < 20, rate=0.5), 8, seed=3)
    counts = np.zeros(40, int)
    for epoch in range(20):
        many.set_epoch(epoch)
        counts[np.concatenate(list(many))] += 1
    assert 8 <= counts[:20].min() <= counts[:20].max() <= 14
    seen = []
    order = BatchSampler(rows_of(10, undersampled=undersampled, rate=0.1), 5, seed=3)  # one of them in an epoch
    for epoch in range(6):
        order.set_epoch(epoch)
        (one,) = batches(order)
        seen += set(one) - {6, 7, 8, 9}
    assert sorted(seen) == list(range(6))
    assert len(BatchSampler(rows_of(10, undersampled=undersampled, rate=0.5), 4, seed=3)) == 2
    (none,) = batches(BatchSampler(rows_of(10, undersampled=undersampled, rate=0), 4, seed=3))
    assert sorted(none) == [6, 7, 8, 9]
    assert batches(BatchSampler(rows_of(10, undersampled=undersampled, rate=0.5), 4)) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]


@pytest.mark.parametrize("seed", [None, 3])
def test_processes_share_each_batch(seed):
    whole = BatchSampler(rows_of(11), 4, seed)
    shares = [BatchSampler(rows_of(11), 4, seed, rank=rank, ranks=3) for rank in range(3)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(chain(*parts)) == sorted(batch)


@pytest.mark.parametrize(("brain", "shape"), [(None, (32, 32)), (BoundingBox(3, 19, 5, 30), (16, 32))])
def test_streamed_batches_are_the_resident_ones(tmp_path, brain, shape):
    store = save_squares(tmp_path, brain=brain)
    rows = Rows(store, np.array([1, 2, 5, 7, 8, 11]))
    resident, streamed = InMemoryRows(rows, CPU), StreamedRows(rows)
    for chosen in (np.array([5, 0, 3, 1]), np.array([2]), np.array([4, 4, 0])):
        one, other = resident[chosen], streamed[chosen]
        assert one.keys() == other.keys() == {"image", "labels", "row"}
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert one["image"].shape == (len(chosen), 4, *shape)
        assert one["labels"].shape == (len(chosen), *shape)
    assert resident[np.array([5])]["row"].tolist() == [11]


@pytest.mark.parametrize(("brain", "pixels"), [(None, 32 * 32), (BoundingBox(3, 19, 5, 30), 16 * 32)])
def test_budget_decides_where_rows_are_kept(tmp_path, brain, pixels):
    rows = Rows(save_squares(tmp_path, brain=brain), np.arange(12))
    assert rows.size == 12 * (4 * pixels * 2 + pixels)
    order = BatchSampler(rows, 4)
    assert isinstance(load(rows, order, CPU, rows.size / 1e9, 0).dataset, InMemoryRows)
    assert isinstance(load(rows, order, CPU, (rows.size - 1) / 1e9, 0).dataset, StreamedRows)


def test_no_more_workers_than_cores(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    assert [count_workers(asked, 1) for asked in (0, 2, 8)] == [0, 2, 3]
    assert [count_workers(8, processes) for processes in (2, 3, 4)] == [1, 1, 0]


def full(*_):
    return SimpleNamespace(free=100)


def refuse(self):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")


@pytest.mark.parametrize(
    ("where", "what"), [("brain_tumor.training.batches.disk_usage", full), ("torch.Tensor.share_memory_", refuse)]
)
def test_batches_without_room_in_shared_memory_go_through_a_pipe(tmp_path, monkeypatch, where, what):
    """Where torch would let the process that trains wait for ever.

    Workers are forked on Linux, so it is full for them too.
    """
    rows = Rows(save_squares(tmp_path), np.arange(12))
    resident = list(load(rows, BatchSampler(rows, 5), CPU, 1.0, 0))
    monkeypatch.setattr(where, what)
    streamed = list(load(rows, BatchSampler(rows, 5), CPU, 0.0, 1))
    for one, other in zip(resident, streamed, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_tensor_through_a_pipe_is_the_same_and_may_be_written_to():
    tensor = torch.randn(3, 4).half()
    found = pickle.loads(pickle.dumps(Piped(tensor)))
    assert torch.equal(found, tensor)
    found += 1
