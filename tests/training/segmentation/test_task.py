import numpy as np
import pytest
import torch

from brain_tumor.data.common.store import Store, StoreContent, write_store
from brain_tumor.training.segmentation.labels import to_channels, to_labels
from brain_tumor.training.segmentation.task import dice_of_confusion, training_rows
from brain_tumor.training.settings import SegmentationRecipe
from brain_tumor.training.task import count_cells, warm_cosine


@pytest.mark.parametrize("steps", [1, 2, 10, 400])
def test_learning_rate_rises_then_falls_to_zero(steps):
    factors = [warm_cosine(step, steps) for step in range(steps)]
    assert max(factors) == pytest.approx(1)
    assert all(0 <= f <= 1 for f in factors)
    peak = factors.index(max(factors))
    assert peak == max(1, steps // 10) - 1
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert steps < 3 or factors[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_cells_are_counted_the_same_on_a_gpu(device):
    """On the host by `bincount`; the other way, that of GPUs, is traced without one and has the same shape."""
    cell = torch.randint(0, 16, (2, 9, 9))
    counts = count_cells(cell.to(device), 16)
    assert counts.shape == (16,)
    assert counts.dtype == torch.int64
    as_on_gpus = (cell.flatten() == torch.arange(16)[:, None]).sum(1)
    assert torch.equal(count_cells(cell, 16), as_on_gpus)


def test_labels_and_channels_are_inverse():
    labels = torch.randint(0, 4, (3, 8, 8), dtype=torch.uint8)
    assert torch.equal(to_labels(to_channels(labels, 3)), labels)


def test_dice_of_counted_pairs_by_hand():
    pairs = torch.tensor([[90, 2, 0, 0], [1, 5, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])  # there x found
    dice = dice_of_confusion(pairs, {"one": [1], "two": [2], "three": [3], "all": [1, 2, 3], "none": []})
    assert dice["one"].item() == pytest.approx(2 * 5 / (7 + 8))
    assert dice["two"].item() == 0  # one pixel found, none there
    assert dice["three"].item() == 0
    assert dice["all"].item() == pytest.approx(2 * 7 / (8 + 9))
    assert dice["none"].item() == 1


def test_slices_without_tumour_are_learned_from_seldom(tmp_path):
    pixels = np.array([0, 5, 0, 9, 0])
    write_store(tmp_path / "a.h5", StoreContent({}, iter([{"tumour_pixels": pixels}])))
    store, rows = Store(tmp_path / "a.h5"), np.array([1, 2, 4])
    assert training_rows(store, rows, SegmentationRecipe()).undersampled is None
    some = training_rows(store, rows, SegmentationRecipe(empty_slice_rate=0.25))
    assert some.undersampled.tolist() == [False, True, True]
    assert some.rate == 0.25
